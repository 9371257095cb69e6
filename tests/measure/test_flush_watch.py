from __future__ import annotations

import sys
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_vlmlatency.machine.allocator import LOW_LEVEL_ENTRIES, PUBLIC_HOMES, FlushWatch

if TYPE_CHECKING:
    from collections.abc import Callable

imported_early = torch.cuda.empty_cache
empties_any_accelerator = pytest.mark.skipif(
    not hasattr(torch.accelerator, "empty_cache"),
    reason="this torch has no function that empties the cache of whatever accelerator there is",
)


def everything_watched() -> dict[str, object]:
    low_level = {name: getattr(torch._C, name, None) for name in LOW_LEVEL_ENTRIES}
    public = {home: getattr(sys.modules.get(home), "empty_cache", None) for home in PUBLIC_HOMES}
    return {**low_level, **public}


def unless_refused(flush: Callable[[], None]) -> None:
    """Call a flush that torch refuses on a host without an accelerator."""
    with suppress(RuntimeError):
        flush()


class FakeCuda:
    """A CUDA build as torch's Python part sees it: initialised, and able to flush."""

    def __init__(self) -> None:
        self.n_flushes = 0

    def empty(self) -> None:
        self.n_flushes += 1


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(torch._C, "_cuda_emptyCache", fake.empty, raising=False)
    monkeypatch.setattr(torch.cuda.memory, "is_initialized", lambda: True)
    return fake


# Calls that empty a cache, counted on the host that the tests run on


@pytest.mark.parametrize(
    "flush",
    [
        pytest.param(lambda: torch.cuda.empty_cache(), id="cuda"),
        pytest.param(lambda: torch.cuda.memory.empty_cache(), id="cuda.memory"),
        pytest.param(
            lambda: unless_refused(torch.accelerator.empty_cache),
            id="accelerator",
            marks=empties_any_accelerator,
        ),
        pytest.param(
            lambda: unless_refused(torch.accelerator.memory.empty_cache),
            id="accelerator.memory",
            marks=empties_any_accelerator,
        ),
        pytest.param(lambda: torch.xpu.empty_cache(), id="xpu"),
        pytest.param(lambda: torch.xpu.memory.empty_cache(), id="xpu.memory"),
    ],
)
def test_every_public_spelling_counts_once_without_an_accelerator(
    flush: Callable[[], None],
) -> None:
    with FlushWatch() as watch:
        flush()

    assert watch.n_calls == 1


def test_a_name_imported_during_the_watch_is_counted() -> None:
    with FlushWatch() as watch:
        from torch.cuda import empty_cache  # noqa: PLC0415 - the moment of the import is the point

        empty_cache()

    assert watch.n_calls == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="a flush with nothing to empty needs no CUDA")
def test_a_name_imported_before_the_watch_is_unseen_where_it_has_nothing_to_empty() -> None:
    with FlushWatch() as watch:
        imported_early()

    assert watch.n_calls == 0


def test_nothing_is_counted_before_or_after_the_watch() -> None:
    watch = FlushWatch()
    torch.cuda.empty_cache()
    with watch:
        pass
    torch.cuda.empty_cache()

    assert watch.n_calls == 0


def test_the_count_can_be_read_while_the_watch_is_held() -> None:
    with FlushWatch() as watch:
        torch.cuda.empty_cache()
        n_before = watch.n_calls
        torch.cuda.empty_cache()

        assert (n_before, watch.n_calls) == (1, 2)


# Calls on an accelerator, which pass through torch's low-level entry as well


def test_a_call_through_both_layers_counts_once_and_flushes_once(cuda: FakeCuda) -> None:
    with FlushWatch() as watch:
        torch.cuda.empty_cache()

    assert (watch.n_calls, cuda.n_flushes) == (1, 1)


def test_a_name_imported_before_the_watch_is_counted_on_an_accelerator(cuda: FakeCuda) -> None:
    with FlushWatch() as watch:
        imported_early()

    assert (watch.n_calls, cuda.n_flushes) == (1, 1)


def test_the_low_level_entry_itself_is_counted(cuda: FakeCuda) -> None:
    with FlushWatch() as watch:
        torch._C._cuda_emptyCache()

    assert (watch.n_calls, cuda.n_flushes) == (1, 1)


def test_a_flush_that_raises_is_counted_and_the_next_one_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail() -> None:
        raise RuntimeError("device lost")

    monkeypatch.setattr(torch._C, "_mps_emptyCache", fail, raising=False)
    with FlushWatch() as watch:
        with pytest.raises(RuntimeError, match="device lost"):
            torch.mps.empty_cache()
        torch.cuda.empty_cache()

    assert watch.n_calls == 2


# What the watch leaves behind


def test_every_function_is_the_same_object_after_the_watch() -> None:
    before = everything_watched()

    with FlushWatch():
        during = everything_watched()

    assert everything_watched() == before
    present = {name for name, function in before.items() if function is not None}
    assert {name for name in present if during[name] is before[name]} == set()
    assert present >= {"torch.cuda", "_mps_emptyCache"}


def test_every_function_is_restored_after_an_exception() -> None:
    before = everything_watched()

    with pytest.raises(ZeroDivisionError), FlushWatch():
        raise ZeroDivisionError

    assert everything_watched() == before


def test_a_function_that_someone_replaced_during_the_watch_is_left_to_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def theirs() -> None:
        pass

    monkeypatch.setattr(torch.cuda, "empty_cache", torch.cuda.empty_cache)
    with FlushWatch():
        torch.cuda.empty_cache = theirs

    assert torch.cuda.empty_cache is theirs


def test_a_watch_inside_another_counts_for_both() -> None:
    with FlushWatch() as outer:
        torch.cuda.empty_cache()
        with FlushWatch() as inner:
            torch.cuda.empty_cache()
        torch.cuda.empty_cache()

    assert (outer.n_calls, inner.n_calls) == (3, 1)


def test_two_watches_may_end_in_the_order_they_began() -> None:
    before = everything_watched()
    first, second = FlushWatch(), FlushWatch()

    first.__enter__()
    second.__enter__()
    first.__exit__()
    torch.cuda.empty_cache()
    second.__exit__()

    assert (first.n_calls, second.n_calls) == (0, 1)
    assert everything_watched() == before


def test_entering_a_watch_twice_is_refused_and_leaves_it_working() -> None:
    with FlushWatch() as watch:
        with pytest.raises(AssertionError, match="entered twice"):
            watch.__enter__()
        torch.cuda.empty_cache()

    assert watch.n_calls == 1


def test_a_flush_in_another_thread_is_counted() -> None:
    with FlushWatch() as watch:
        thread = threading.Thread(target=torch.cuda.empty_cache)
        thread.start()
        thread.join()

    assert watch.n_calls == 1


def test_a_flush_in_another_thread_is_counted_while_this_one_is_inside_a_flush(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def flush_elsewhere() -> None:
        thread = threading.Thread(target=torch.cuda.empty_cache)
        thread.start()
        thread.join()

    monkeypatch.setattr(torch._C, "_mps_emptyCache", flush_elsewhere, raising=False)
    with FlushWatch() as watch:
        torch.mps.empty_cache()

    assert watch.n_calls == 2
