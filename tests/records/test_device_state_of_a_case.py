"""What a case tells of the processes of others on its devices."""

from __future__ import annotations

from dataclasses import replace

from pytest_vlmlatency.plain import from_plain, to_plain
from pytest_vlmlatency.records import DeviceState, rounds_of
from tests.cases import a_case

ALONE = DeviceState(
    sm_clock_mhz=1980,
    memory_clock_mhz=2619,
    temperature_c=41,
    power_w=250.5,
    throttle_reasons=(),
    n_other_processes=0,
)
CROWDED = replace(ALONE, n_other_processes=2)
SILENT = replace(ALONE, n_other_processes=None)


def test_the_most_processes_of_others_before_or_after_are_the_cases() -> None:
    case = a_case(device_before=(ALONE, SILENT), device_after=(CROWDED,))

    assert case.n_other_processes == 2
    assert rounds_of(case).n_other_processes == 2


def test_without_an_answer_of_the_driver_nobody_is_counted() -> None:
    assert a_case(device_before=(SILENT,)).n_other_processes is None
    assert a_case().n_other_processes is None


def test_a_state_that_was_kept_before_processes_were_counted_is_still_read() -> None:
    kept = to_plain(CROWDED)
    del kept["n_other_processes"]

    assert from_plain(DeviceState, kept) == SILENT
