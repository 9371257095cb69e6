"""Ways to decode: each measured right, and labelled."""

import pytest
import torch

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.errors import PhasesNotFound
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import ASKED, Captioner, Images
from tests.modes.installed import CHUNKS_BY_CALL
from tests.zoo import Specimen, block_modules, build


def test_one_token_has_decode_time_but_no_time_per_step(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs={**llava.inputs, "max_new_tokens": 1}, rounds=1)

    call = case.calls[0]
    assert (call.n_output_tokens, call.n_decode_steps) == (1, 0)
    assert call.decode_ms > 0
    assert call.tpot_ms is None
    assert call.tpot_cpu_ms is None


def test_a_text_only_call_has_no_vision_and_says_so(llava: Specimen) -> None:
    assert llava.text_inputs is not None

    case = measure_generate(llava.generate, kwargs=llava.text_inputs, rounds=1)

    call = case.calls[0]
    assert (call.vision_ms, call.n_vision_calls, call.n_vision_tokens) == (0, 0, 0)
    assert case.labels == ("text-only",)


def test_per_token_times_are_a_labelled_extra(llava: Specimen, clock: FakeClock) -> None:
    step_ms = iter([50, 1, 2, *[50, *range(1, 8)] * 9])  # three tokens are watched, then eight
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(next(step_ms))):
        case = measure_generate(
            llava.generate, kwargs=llava.inputs, rounds=1, per_token=True, clock=clock
        )

    assert case.calls[0].decode_step_times_ms == (1, 2, 3, 4, 5, 6, 7)
    assert case.labels == ("per-token",)


def test_token_times_are_not_kept_unasked(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    assert case.calls[0].decode_step_times_ms is None


def test_sampling_gives_the_same_work_in_every_round(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs={**llava.inputs, "do_sample": True}, rounds=3)

    assert case.labels == ("sample",)
    assert case.notes == ()


def test_early_ends_in_a_batch_count_tokens_without_padding(llava: Specimen) -> None:
    """The rows are the same but for one pixel's image; the end token is one that a row gives."""
    inputs = {name: torch.cat([value, value]) for name, value in llava.inputs.items()}
    inputs["pixel_values"][1] *= -3
    rows = llava.generate(**inputs)[:, inputs["input_ids"].shape[1] :].tolist()
    end = next(token for token in rows[0] if token not in rows[1])
    n_first = rows[0].index(end) + 1

    case = measure_generate(
        llava.generate, kwargs={**inputs, "eos_token_id": end, "pad_token_id": 0}, rounds=1
    )

    call = case.calls[0]
    assert (call.n_output_tokens, call.n_decode_steps) == (8, 7)
    assert call.n_generated_tokens == n_first + 8
    assert call.batch_size == 2


@pytest.mark.parametrize(
    ("label", "settings"),
    [
        ("beam", {"num_beams": 3}),
        ("assisted", {"prompt_lookup_num_tokens": 2}),
        ("static-cache", {"cache_implementation": "static"}),
    ],
)
def test_other_ways_to_decode_are_measured_and_labelled(
    llava: Specimen, label: str, settings: dict[str, object]
) -> None:
    case = measure_generate(llava.generate, kwargs={**llava.inputs, **settings}, rounds=1)

    assert case.labels == (label,)
    assert case.calls[0].n_output_tokens == 8


@pytest.mark.skipif(not CHUNKS_BY_CALL, reason="chunks run past the model's call: refused, below")
def test_a_prompt_in_chunks_is_prefill_as_a_whole(llava: Specimen, clock: FakeClock) -> None:
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(1)):
        case = measure_generate(
            llava.generate,
            kwargs={**llava.inputs, "prefill_chunk_size": 10},
            rounds=1,
            clock=clock,
        )

    call = case.calls[0]
    assert call.prefill_ms == 3  # 25 tokens, ten at a time
    assert (call.decode_ms, call.n_decode_steps) == (7, 7)
    assert case.labels == ("chunked",)


@pytest.mark.skipif(CHUNKS_BY_CALL, reason="every chunk is a call of the model: measured, above")
@pytest.mark.parametrize("name", ["blip-2", "mllama"])
def test_a_prompt_in_chunks_past_the_models_call_is_refused_by_name(name: str) -> None:
    specimen = build(name)

    with pytest.raises(PhasesNotFound, match=r"called it 3 times; expected a call for each"):
        measure_generate(
            specimen.generate, kwargs={**specimen.inputs, "prefill_chunk_size": 100}, rounds=1
        )


class PastItsCall(Captioner):
    """Runs all of the prompt but its last word by forward() itself."""

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"input_ids": input_ids}

    @torch.no_grad()
    def generate(
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> torch.Tensor:
        chunk, rest = input_ids[:, :-1], input_ids[:, -1:]
        self.forward(**self.prepare_inputs_for_generation(chunk), images=images)
        for _ in range(max_new_tokens):
            logits = self(**self.prepare_inputs_for_generation(rest)).logits
            rest = logits[:, -1].argmax(-1, keepdim=True)
            input_ids = torch.cat([input_ids, rest], dim=1)
        return input_ids


def test_forwards_past_the_models_call_are_refused_by_name() -> None:
    model = PastItsCall()

    with pytest.raises(PhasesNotFound, match=r"^generate\(\) prepared 4 forwards of '', but call"):
        measure_generate(model.generate, kwargs=ASKED, rounds=1)
