"""generate() on another thread, beside other threads, or not at its end when its caller is."""

import contextvars
import functools
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest
import torch

from pytest_vlmlatency import InvalidMeasurement, measure_generate, span
from pytest_vlmlatency.records import WALL, Place
from tests.builders import FakeClock, delayed
from tests.zoo import Specimen, block_modules, vision_module

TIMEOUT_S = 30
"""Far beyond any wait here: a thread that hangs fails its test."""


def n_hooks(model: torch.nn.Module) -> int:
    return sum(
        len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules()
    )


@pytest.mark.parametrize("n_good_calls", [0, 1, 4], ids=["watched", "unmeasured", "measured"])
def test_a_function_that_swallows_an_error_of_generate_is_refused(
    llava: Specimen, n_good_calls: int
) -> None:
    settings = iter([{"use_cache": True}] * n_good_calls)

    def chat(**inputs: torch.Tensor) -> None:
        with suppress(ValueError):
            llava.generate(**inputs, **next(settings, {"no_such_argument": True}))

    llava.generate(**llava.inputs)
    before = n_hooks(llava.model)
    with pytest.raises(InvalidMeasurement, match=r"chat returned, but generate\(\) had not: it "):
        measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=3)

    assert n_hooks(llava.model) == before
    assert "generate" not in vars(llava.model)


def test_a_function_that_returns_before_generate_ends_is_refused(llava: Specimen) -> None:
    has_begun, may_end = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def chat(**inputs: torch.Tensor) -> None:
        threads.append(threading.Thread(target=llava.generate, kwargs=inputs))
        threads[-1].start()
        has_begun.wait(TIMEOUT_S)

    def hold() -> None:
        has_begun.set()
        may_end.wait(TIMEOUT_S)

    llava.generate(**llava.inputs)
    before = n_hooks(llava.model)
    with (
        delayed(vision_module(llava), hold),
        pytest.raises(InvalidMeasurement, match=r"still running on another thread.*join the thr"),
    ):
        measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=1)
    may_end.set()
    threads[0].join(TIMEOUT_S)

    assert len(threads) == 1
    assert n_hooks(llava.model) == before
    assert "generate" not in vars(llava.model)


def test_generate_on_a_thread_that_is_joined_is_measured(llava: Specimen, clock: FakeClock) -> None:
    def chat(**inputs: torch.Tensor) -> None:
        thread = threading.Thread(target=llava.generate, kwargs=inputs)
        thread.start()
        thread.join(TIMEOUT_S)

    with (
        delayed(vision_module(llava), lambda: clock.advance_ms(60)),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(3)),
    ):
        case = measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=2, clock=clock)

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.decode_ms, call.other_ms) == (60, 3, 21, 0)
    assert case.notes == ()


def test_a_thread_with_other_torch_threads_is_noted(llava: Specimen) -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(torch.get_num_threads).result()  # a thread's own number is set up by this
        pool.submit(torch.set_num_threads, 2).result()

        def chat(**inputs: torch.Tensor) -> object:
            return pool.submit(llava.generate, **inputs).result()

        case = measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=1, threads=1)

    assert case.n_threads == 2
    assert case.notes == (
        "generate() ran on a thread of its own, with 2 torch threads instead of 1 and pinned to "
        "no core",
    )


def test_a_users_span_on_another_thread_takes_nothing_from_other(
    llava: Specimen, clock: FakeClock
) -> None:
    """The span is open on its thread for the 4 ms that the preamble of generate() takes."""
    preamble = llava.model._prepare_generation_config
    assert callable(preamble)

    @functools.wraps(preamble)
    def beside_a_span(*args: object, **kwargs: object) -> object:
        is_open, may_close = threading.Event(), threading.Event()
        thread = threading.Thread(
            target=contextvars.copy_context().run, args=(hold_span_open, is_open, may_close)
        )
        thread.start()
        is_open.wait(TIMEOUT_S)
        clock.advance_ms(4)
        may_close.set()
        thread.join(TIMEOUT_S)
        return preamble(*args, **kwargs)

    vars(llava.model)["_prepare_generation_config"] = beside_a_span
    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(3)):
        case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, clock=clock)

    assert case.calls[0].other_ms == 4
    assert case.calls[0].phase_time("aside", WALL) == 0


def hold_span_open(is_open: threading.Event, may_close: threading.Event) -> None:
    with span("aside"):
        is_open.set()
        may_close.wait(TIMEOUT_S)


def test_a_span_around_generate_on_another_thread_is_outside(
    llava: Specimen, clock: FakeClock
) -> None:
    def chat(**inputs: torch.Tensor) -> None:
        thread = threading.Thread(target=llava.generate, kwargs=inputs)
        with span("stream"):
            clock.advance_ms(5)
            thread.start()
            thread.join(TIMEOUT_S)

    with delayed(block_modules(llava)[0], lambda: clock.advance_ms(3)):
        case = measure_generate(chat, model=llava.model, kwargs=llava.inputs, rounds=1, clock=clock)

    stream = [(part.place, part.measures[WALL]) for part in case.calls[0].spans[:1]]
    assert stream == [(Place.OUTSIDE, 5)]
    assert case.calls[0].phase_time("stream", WALL) == 5
