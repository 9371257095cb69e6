"""What the evidence of compilation claims can be false."""

from dataclasses import replace

import pytest

from benchmarks.evidence.compilation import Figures, Row, judge

MEASURED = Row(
    family="llava",
    way="model.forward",
    n_threads=1,
    labels=("compiled",),
    n_compiled_first=11,
    n_runs_bare=11,
    n_calls=5,
    n_runs_measuring=55,
    n_runs_after=11,
)
REFUSED = replace(MEASURED, refusal="vision is hidden", labels=(), n_runs_measuring=22)
UNCOMPILED = Row(family="blip-2", way="model.forward", n_threads=2)
FAILED = Row(family="git", way="static cache", n_threads=2, failure="ValueError")


@pytest.mark.parametrize(
    ("row", "held"),
    [
        (MEASURED, (True, True, True, True)),
        (REFUSED, (True, True, True, True)),
        (UNCOMPILED, (True, True, True, True)),
        (FAILED, (True, True, True, True)),
        (replace(MEASURED, n_compiled_measuring=1), (False, True, True, True)),
        (replace(REFUSED, n_compiled_after=1), (False, True, True, True)),
        (replace(MEASURED, n_runs_measuring=54), (True, False, True, True)),
        (replace(REFUSED, n_runs_after=3), (True, False, True, True)),
        (replace(MEASURED, labels=()), (True, True, False, True)),
        (replace(UNCOMPILED, labels=("compiled",)), (True, True, False, True)),
        (replace(MEASURED, n_limits=1), (True, True, True, False)),
        (replace(REFUSED, is_same_output=False), (True, True, True, False)),
    ],
)
def test_measuring_must_compile_nothing_and_run_all_that_is_compiled(
    row: Row, held: tuple[bool, ...]
) -> None:
    claims = judge(Figures(rows=(MEASURED, row)))

    assert tuple(claim.holds for claim in claims) == held
