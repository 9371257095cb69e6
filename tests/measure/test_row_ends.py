"""How many tokens each row was given: padding is none, whatever ended the row."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from transformers import StoppingCriteria

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.records import Call
from tests.builders import FakeClock, delayed
from tests.modes.prompts import doubled, padded
from tests.zoo import Inputs, Specimen, block_modules, build
from tests.zoo.earlier import CACHE
from tests.zoo.shrink import EOS, PAD

N_NEW = 8


class EndsRow(StoppingCriteria):
    """Ends the second row after so many tokens."""

    def __init__(self, n_prompt: int, n_tokens: int) -> None:
        self.width, self.n_calls = n_prompt + n_tokens, 0

    def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
        is_done = torch.zeros(input_ids.shape[0], dtype=torch.bool)
        is_done[1:] = input_ids.shape[1] >= self.width
        return is_done


def measure(
    generate: Callable[..., object], specimen: Specimen, inputs: Inputs, **settings: object
) -> Call:
    clock = FakeClock()
    with delayed(block_modules(specimen)[0], lambda: clock.advance_ms(3)):
        kwargs = {**inputs, **settings}
        return measure_generate(generate, kwargs=kwargs, rounds=1, clock=clock).calls[0]


def ending(inputs: Inputs, n_tokens: int, *, eos: object = EOS, pad: int = PAD) -> dict[str, Any]:
    """Return settings by which the second row ends after so many tokens."""
    n_prompt = inputs["input_ids"].shape[1] if "input_ids" in inputs else 0
    return {
        "max_new_tokens": N_NEW,
        "eos_token_id": eos,
        "pad_token_id": pad,
        "stopping_criteria": [EndsRow(n_prompt, n_tokens)],
    }


@pytest.mark.parametrize(
    "settings",
    [{}, {"pad": EOS}, {"eos": [EOS, 290]}],
    ids=["", "padded with the end token", "several end tokens"],
)
@pytest.mark.parametrize("further", [{}, {"return_dict_in_generate": True}], ids=["ids", "dict"])
def test_padding_behind_a_row_that_a_criterion_ended_is_no_token(
    settings: dict[str, Any], further: dict[str, object], llava: Specimen
) -> None:
    inputs = padded(doubled(llava))

    call = measure(llava.generate, llava, inputs, **ending(inputs, 3, **settings), **further)

    assert (call.n_generated_tokens, call.n_output_tokens) == (N_NEW + 3, N_NEW)


def test_padding_of_a_decoder_with_an_encoder_is_no_token() -> None:
    florence = build("florence2")
    inputs = doubled(florence)
    settings = ending({}, 4)  # the decoder begins with one token of its own

    call = measure(florence.generate, florence, inputs, **settings)

    assert call.n_generated_tokens == N_NEW + 3


def test_a_row_goes_on_where_no_end_token_is_set(llava: Specimen) -> None:
    inputs = padded(doubled(llava))
    settings = ending(inputs, 3)
    del settings["eos_token_id"]

    call = measure(llava.generate, llava, inputs, **settings)

    assert call.n_generated_tokens == 2 * N_NEW


def test_tokens_whose_ids_do_not_come_back_are_counted_by_row(llava: Specimen) -> None:
    class Answers(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vlm: Any = llava.model

        def generate(self, **kwargs: object) -> list[str]:
            return [str(row) for row in self.vlm.generate(**kwargs).tolist()]

    inputs = padded(doubled(llava))

    call = measure(Answers().generate, llava, inputs, **ending(inputs, 3))

    assert call.n_generated_tokens == N_NEW + 3


def test_padding_of_beams_that_may_be_tokens_leaves_the_count_unknown(llava: Specimen) -> None:
    inputs = padded(doubled(llava))
    settings = {**ending(inputs, 3, pad=EOS), "num_beams": 2, "num_return_sequences": 2}

    class EndsAll(EndsRow):
        """Ends the beams of the second row alone."""

        def __call__(self, input_ids: Any, scores: Any, **kwargs: Any) -> Any:
            is_done = torch.zeros(input_ids.shape[0], dtype=torch.bool)
            is_done[len(is_done) // 2 :] = input_ids.shape[1] >= self.width
            return is_done

    settings["stopping_criteria"] = [EndsAll(inputs["input_ids"].shape[1], 3)]

    call = measure(llava.generate, llava, inputs, **settings)

    assert (call.n_generated_tokens, call.n_output_tokens) == (None, N_NEW)


def test_beams_that_only_end_tokens_end_are_counted(llava: Specimen) -> None:
    inputs = padded(doubled(llava))

    call = measure(llava.generate, llava, inputs, num_beams=2, eos_token_id=EOS, pad_token_id=PAD)

    assert call.n_generated_tokens == 2 * N_NEW


@pytest.mark.parametrize("settings", [{}, {"num_return_sequences": 2}], ids=["", "sequences"])
@pytest.mark.parametrize("is_text", [True, False], ids=["text", "ids"])
def test_beams_are_no_tokens_where_the_ids_of_the_prompt_are_unknown(
    settings: dict[str, object], *, is_text: bool, llava: Specimen
) -> None:
    class Captions(nn.Module):
        """Searches with beams, on embeddings that its caller does not see."""

        def __init__(self) -> None:
            super().__init__()
            self.vlm: Any = llava.model

        def generate(self, pixel_values: torch.Tensor) -> object:
            inputs = {**llava.inputs, "pixel_values": pixel_values, "num_beams": 3, **settings}
            output = self.vlm.generate(**inputs)
            return str(output.tolist()) if is_text else output

    inputs = {"pixel_values": llava.inputs["pixel_values"]}

    call = measure(Captions().generate, llava, inputs)

    assert (call.n_generated_tokens, call.n_output_tokens) == (None, N_NEW)


class PadsItself(nn.Module):
    """Ends the second row after three tokens by a loop of its own, which nothing else shows."""

    def __init__(self, vlm: Any) -> None:
        super().__init__()
        self.vlm = vlm
        self.config, self.generation_config = vlm.config, vlm.generation_config

    @torch.no_grad()
    def generate(self, **kwargs: Any) -> Any:
        ids, cache, given = kwargs.pop("input_ids"), None, None
        n_prompt, mask = ids.shape[1], kwargs.pop("attention_mask")
        while ids.shape[1] < n_prompt + N_NEW:
            step = {"input_ids": ids, **kwargs} if given is None else {"input_ids": given}
            output = self.vlm(**step, attention_mask=mask, **{CACHE: cache}, use_cache=True)
            cache, given = output.past_key_values, output.logits[:, -1:].argmax(-1)
            if ids.shape[1] >= n_prompt + 3:
                given[1] = PAD
            ids = torch.cat([ids, given], dim=1)
            mask = torch.cat([mask, torch.ones_like(given)], dim=1)
        return ids


def test_padding_of_a_loop_of_ones_own_that_may_be_tokens_leaves_the_count_unknown(
    llava: Specimen,
) -> None:
    llava.model.generation_config.pad_token_id = PAD  # type: ignore[union-attr]
    model = PadsItself(llava.model).train(mode=False)

    call = measure(model.generate, llava, padded(doubled(llava)))

    assert (call.n_generated_tokens, call.n_output_tokens) == (None, N_NEW)
