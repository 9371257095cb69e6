"""Calls that end before their longest length: at a string, or when their time is over.

Where one ends before its first decode step, a longer one is watched, without what ends it.
"""

import pytest

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.models.processors import build_tokenizer
from pytest_vlmlatency.records import Call, Case
from tests.builders import FakeClock, delayed
from tests.measure.ticking import TOKEN_MS, Ticking
from tests.zoo import Specimen, block_modules, build, vision_module

BLOCK_MS, VISION_MS = 3, 60
FAMILIES = ("llava", "qwen2_vl", "mllama", "florence2")


def measure(specimen: Specimen, clock: FakeClock, **settings: object) -> Case:
    """Measure with 60 ms in the tower, 3 ms in a block, 2 ms a token."""
    kwargs = {**specimen.inputs, "logits_processor": [Ticking(clock)], **settings}
    with (
        delayed(vision_module(specimen), lambda: clock.advance_ms(VISION_MS)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(BLOCK_MS)),
    ):
        return measure_generate(specimen.generate, kwargs=kwargs, rounds=1, clock=clock)


def times(call: Call) -> tuple[float, float, float]:
    """Return vision, prefill and decode in ms."""
    return call.vision_ms, call.prefill_ms, call.decode_ms


@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_whose_time_is_over_at_once_gives_one_token(clock: FakeClock, family: str) -> None:
    case = measure(build(family), clock, max_time=1e-9)

    assert case.calls[0].n_output_tokens == 1
    assert times(case.calls[0]) == (VISION_MS, BLOCK_MS, TOKEN_MS)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_call_ends_at_a_string(clock: FakeClock, family: str) -> None:
    """The string is what the third generated token says; the first to say it ends the call."""
    specimen = build(family)
    tokenizer = build_tokenizer()
    ids = specimen.generate(**specimen.inputs)[0, specimen.n_prompt_columns :].tolist()
    words = [tokenizer.convert_ids_to_tokens(token) for token in ids]
    n_tokens = words.index(words[2]) + 1

    case = measure(specimen, clock, stop_strings=[words[2]], tokenizer=tokenizer, min_new_tokens=0)

    call = case.calls[0]
    assert call.n_output_tokens == n_tokens
    assert times(call) == (VISION_MS, BLOCK_MS, BLOCK_MS * (n_tokens - 1) + TOKEN_MS * n_tokens)
