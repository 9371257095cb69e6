"""Ways to decode: each measured right, and labelled."""

import pytest
import torch

from pytest_vlmlatency import measure_generate
from tests.builders import FakeClock, delayed
from tests.zoo import Specimen, block_modules


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
