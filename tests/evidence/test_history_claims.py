"""The claims about large histories can fail, and the histories they rest on are real ones."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from benchmarks.evidence import history_scale as looks
from benchmarks.evidence import history_scale as scale
from benchmarks.evidence._histories import Size, candidate_of, write_history
from benchmarks.evidence.history_scale import JUDGE, program, timed
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.records import run_rounds_of

if TYPE_CHECKING:
    from pathlib import Path


def a_read(size: Size, form: str, wall_s: float) -> looks.Read:
    return looks.Read(
        size=size,
        form=form,
        wall_s=(wall_s,),
        cpu_s=(wall_s,),
        n_names=size.n_runs,
        n_runs=scale.N_BASELINE,
        n_times=1000,
        heavy=(),
        history_bytes=1,
    )


def a_gate(size: Size, form: str, judged_s: float) -> looks.Gate:
    return looks.Gate(
        size=size,
        form=form,
        judged_s=(judged_s,),
        n_runs=scale.N_BASELINE,
        n_judged=size.n_cases,
        heavy=(),
    )


def figures(**changes: object) -> scale.Figures:
    """Return figures by which everything holds, with one reading (the first) changed."""
    first = replace(a_read(scale.USUAL, looks.PARQUET, 0.4), **changes)  # type: ignore[arg-type]  # by name
    sizes = (scale.USUAL, scale.MANY)
    return scale.Figures(
        reads=(
            first,
            a_read(scale.USUAL, looks.FILES, 2.9),
            a_read(scale.MANY, looks.FILES, 9.0),
            a_read(scale.MANY, looks.PARQUET, 2.9),
        ),
        gates=(
            a_gate(scale.USUAL, looks.PARQUET, 0.4),
            a_gate(scale.USUAL, looks.FILES, 2.9),
            a_gate(scale.MANY, looks.FILES, 2.9),
            a_gate(scale.MANY, looks.PARQUET, 0.4),
        ),
        compactions=tuple(
            looks.Compaction(size=size, wall_s=1.0, n_folded=size.n_runs) for size in sizes
        ),
        compare=scale.Compare(size=scale.BENCHMARK, with_s=(3.0,), without_s=(1.0,)),
    )


def test_what_is_claimed_of_large_histories_can_hold() -> None:
    assert all(claim.holds for claim in scale.judge(figures()))


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"wall_s": (0.3, 0.6, 0.7)}, "compacted: a baseline is chosen and read within 0.5 s"),
        ({"n_names": 2999}, "Every run is in every index"),
        ({"n_runs": 19}, "Every run is in every index"),
        ({"n_times": 999}, "Every run is in every index"),
        ({"heavy": ("scipy",)}, "one that reads no scipy"),
    ],
)
def test_each_claim_fails_by_what_it_is_about_and_no_other(
    changes: dict[str, object], text: str
) -> None:
    failed = [claim.text for claim in scale.judge(figures(**changes)) if not claim.holds]

    assert len(failed) == 1
    assert text in failed[0]


@pytest.mark.parametrize(
    "changes", [{"judged_s": (0.4, 0.6, 0.7)}, {"n_runs": 19}, {"n_judged": 49}]
)
def test_a_gate_that_is_slow_or_judged_less_is_no_pass(changes: dict[str, object]) -> None:
    one = figures()
    changed = replace(one.gates[0], **changes)  # type: ignore[arg-type]  # by name

    (failed,) = [
        claim.text
        for claim in scale.judge(replace(one, gates=(changed, *one.gates[1:])))
        if not claim.holds
    ]

    assert "compacted: a gate has judged all cases against 20 runs within 0.5 s" in failed


def test_a_gate_of_the_evidence_judges_by_the_commits_of_a_real_repository(tmp_path: Path) -> None:
    size = Size(n_runs=4, n_cases=2, n_rounds=6)
    write_history(tmp_path / "history", size, seed=0, repository=tmp_path)
    candidate_of(tmp_path / "history", tmp_path / "candidate.json")

    ended = timed(
        program(JUDGE, tmp_path / "history", tmp_path, tmp_path / "candidate.json"), tmp_path
    )

    assert (ended.printed["n_runs"], ended.printed["n_judged"]) == (4, 2)
    assert ended.printed["heavy"] == []
    assert 0 < ended.printed["judged_s"] < ended.wall_s


def test_a_run_that_was_not_compacted_is_no_pass() -> None:
    one = figures()
    less = replace(one, compactions=(replace(one.compactions[0], n_folded=1), one.compactions[1]))

    failed = [claim.text for claim in scale.judge(less) if not claim.holds]

    assert failed == ["Every run was compacted, and its own file removed."]


def test_made_up_histories_hold_whole_runs_of_one_machine(tmp_path: Path) -> None:
    fingerprint = write_history(tmp_path, Size(n_runs=3, n_cases=2, n_rounds=4), seed=0)
    store = open_store(tmp_path)

    index = store.index()

    runs = [store.read_whole(name) for name in index.names]
    assert index.problems == ()
    assert {name.fingerprint for name in index.names} == {fingerprint}
    assert store.read(index.names).runs == tuple(run_rounds_of(run) for run in runs)
    assert [[len(case.calls) for case in run.cases] for run in runs] == [[4, 4]] * 3
