"""Known delays in the parts of a zoo's model, whatever is around it, and what is to come back."""

from collections.abc import Callable

import torch

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.options import PhaseOverride
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.zoo import N_NEW_TOKENS, Specimen, block_modules, vision_module

VISION_MS, PROMPT_MS, STEP_MS = 60.0, 30.0, 7.0
DECODE_MS = STEP_MS * (N_NEW_TOKENS - 1)


def measure_delayed(
    specimen: Specimen,
    generate: Callable[..., object],
    *,
    model: object = None,
    phases: PhaseOverride | None = None,
) -> Case:
    """Measure with 60 ms in the tower, 30 ms in the last block's prompt, 7 ms in each step.

    The delays are in the modules that the specimen names, so they must be those that run.
    """
    clock = FakeClock()
    n_runs = 0

    def vision_delay() -> None:
        nonlocal n_runs
        n_runs = 0
        clock.advance_ms(VISION_MS)

    def block_delay() -> None:
        nonlocal n_runs
        clock.advance_ms(STEP_MS if n_runs else PROMPT_MS)
        n_runs += 1

    with (
        delayed(vision_module(specimen), vision_delay),
        delayed(block_modules(specimen)[-1], block_delay),
    ):
        return measure_generate(
            generate, kwargs=specimen.inputs, rounds=2, model=model, phases=phases, clock=clock
        )


def check_delays(case: Case, specimen: Specimen) -> None:
    """Every delay is in its phase, every token is counted, and nothing else took any time."""
    call = case.calls[-1]
    times_ms = (call.vision_ms, call.prefill_ms, call.decode_ms, call.other_ms, call.total_ms)
    assert times_ms == (VISION_MS, PROMPT_MS, DECODE_MS, 0, VISION_MS + PROMPT_MS + DECODE_MS)
    n_tokens = (call.n_vision_tokens, call.n_text_tokens, call.n_output_tokens)
    assert n_tokens == (specimen.n_vision_tokens, specimen.n_text_tokens, N_NEW_TOKENS)
    assert (call.n_vision_calls, call.n_decode_steps) == (1, N_NEW_TOKENS - 1)


def same_tokens(measured: object, bare: torch.Tensor) -> bool:
    """Whether a call returned the very tokens that it returned before."""
    return isinstance(measured, torch.Tensor) and torch.equal(measured, bare)
