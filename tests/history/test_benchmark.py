"""What an entry says, and that pytest-benchmark still is what entries are made for."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import pytest
from pytest_benchmark import session as benchmark_session
from pytest_benchmark import stats as benchmark_stats
from pytest_benchmark.fixture import BenchmarkFixture
from pytest_benchmark.session import BenchmarkSession

from pytest_vlmlatency.history.benchmark import OUTPUTS, Owner, entries_of
from tests.cases import a_call, a_case
from tests.projects import WARNS_OF_ANY_WORKERS

if TYPE_CHECKING:
    from collections.abc import Iterable


def as_dicts(entries: Iterable[Any]) -> dict[str, dict[str, Any]]:
    return {entry.group: entry.as_dict(include_data=True) for entry in entries}


def test_each_phase_and_the_total_are_entries_in_seconds_of_the_gating_measure() -> None:
    case = a_case([a_call(decode_ms=30), a_call(decode_ms=36)])

    entries = as_dicts(entries_of(case))

    assert {name: entry["stats"]["data"] for name, entry in entries.items()} == {
        "vision": [0.005, 0.005],
        "prefill": [0.01, 0.01],
        "decode": [0.015, 0.018],
        "per_step": [0.005, 0.006],
        "total": [0.0305, 0.0335],
    }


def test_an_entry_says_what_it_is_about() -> None:
    case = a_case(config={"tier": "low", "top_k": 4}, params={"size": "low"})

    entry = as_dicts(entries_of(case))["prefill"]

    del entry["stats"]
    assert entry == {
        "group": "prefill",
        "name": "test_caption:prefill[low-tier=low-top_k=4]",
        "fullname": "tests/test_x.py::test_caption:prefill[low-tier=low-top_k=4]",
        "params": {"size": "low", "tier": "low", "top_k": "4"},
        "param": "low-tier=low-top_k=4",
        "extra_info": {
            "measure": "cpu_ms",
            "device": "cpu",
            "config": {"tier": "low", "top_k": 4},
            "n_vision_tokens": 16,
            "n_text_tokens": 8,
            "n_output_tokens": 4,
        },
        "options": {},
    }


def test_a_test_without_parameters_has_a_name_without_brackets() -> None:
    entry = as_dicts(entries_of(a_case(name="test_caption")))["total"]

    assert (entry["name"], entry["param"], entry["params"]) == ("test_caption:total", None, None)


def test_a_parameter_with_colons_stays_in_the_brackets() -> None:
    entry = as_dicts(entries_of(a_case(name="TestA::test_caption[a::b]")))["total"]

    assert entry["fullname"] == "tests/test_x.py::TestA::test_caption:total[a::b]"


def test_a_phase_that_took_no_time_has_no_entry() -> None:
    case = a_case([a_call(vision_ms=0), a_call(vision_ms=0)])

    assert "vision" not in as_dicts(entries_of(case))


def test_without_decode_steps_there_is_no_time_per_step() -> None:
    case = a_case([a_call(n_output_tokens=1)])

    assert set(as_dicts(entries_of(case))) == {"vision", "prefill", "decode", "total"}


def test_on_an_accelerator_entries_are_of_wall_time() -> None:
    entry = as_dicts(entries_of(a_case([a_call(cpu_share=None)])))["prefill"]

    assert entry["stats"]["data"] == [0.02]
    assert entry["extra_info"]["measure"] == "wall_ms"


def test_metadata_still_reads_what_an_owner_has() -> None:
    source = inspect.getsource(benchmark_stats.Metadata)

    assert set(_read_from("fixture", source)) == {
        field.name for field in Owner.__dataclass_fields__.values()
    }
    assert list(inspect.signature(benchmark_stats.Metadata).parameters) == [
        "fixture",
        "iterations",
        "options",
    ]
    assert list(inspect.signature(benchmark_stats.Metadata.update).parameters) == [
        "self",
        "duration",
    ]


def test_the_session_still_keeps_its_entries_in_a_list_on_the_config(
    pytestconfig: pytest.Config,
) -> None:
    session = pytestconfig._benchmarksession  # type: ignore[attr-defined]  # pytest-benchmark's

    assert isinstance(session, BenchmarkSession)
    assert isinstance(session.benchmarks, list)


@pytest.mark.parametrize("name", OUTPUTS)
def test_the_options_that_ask_for_entries_still_exist(
    pytestconfig: pytest.Config, name: str
) -> None:
    assert hasattr(pytestconfig.option, f"benchmark_{name}")


def test_the_fixture_still_warns_by_its_mode() -> None:
    assert "not self._mode" in inspect.getsource(BenchmarkFixture._cleanup)


@pytest.mark.skipif(
    WARNS_OF_ANY_WORKERS, reason="this pytest-benchmark warns of workers by no flag"
)
def test_the_warning_about_workers_still_goes_by_one_flag(pytestconfig: pytest.Config) -> None:
    session = pytestconfig._benchmarksession  # type: ignore[attr-defined]  # pytest-benchmark's
    source = inspect.getsource(benchmark_session.BenchmarkSession.pytest_unconfigure)

    assert session.xdist_benchmark_found in (True, False)
    assert "if self.xdist_benchmark_found:" in source


def _read_from(name: str, source: str) -> list[str]:
    """Return the attributes that a source reads of a variable."""
    return [part.split()[0].split(")")[0] for part in source.split(f"{name}.")[1:]]
