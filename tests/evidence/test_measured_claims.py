"""What is claimed of estimators on measured records can be false, and what they are judged by."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.evidence._estimator_methods import DEFAULT
from benchmarks.evidence._measured_records import (
    CIRCUMSTANCES,
    N_ASKED,
    PASSES,
    RECORDS,
    read_circumstances,
    works_of,
)
from benchmarks.evidence._record import DOCS, Evidence, read_evidence
from benchmarks.evidence.estimator_measured import (
    FIGURE,
    NAME,
    RATIOS,
    Figures,
    Length,
    Row,
    Taken,
    decode_figure,
    draw,
    folds_of,
    judge_figures,
    lengths_of,
    taken_of,
)
from pytest_vlmlatency.estimator.columns import CONFIGURATION, Table, table_of
from pytest_vlmlatency.export import read_records

MOST_BYTES = 1_000_000
GOOD = Figures(
    taken=Taken(
        n_records=1_500,
        n_asked=1_500,
        n_left_out=0,
        n_works=250,
        least_repeats=PASSES[-1],
        loads=(0.5,),
        contended_median=0.0,
        contended_most=0.1,
    ),
    shift={},
    shared={},
    interval={},
    own_median={},
    rows=tuple(
        Row(split=split, method=DEFAULT, errors=(0.02, 0.02), perfect=(0.02, 0.02))
        for split in RATIOS
    ),
    coverage={"T_prefill_total": 0.95},
    lengths=(
        Length(n_tokens=2, n_records=9, per_token_ms=3.0, per_step_ms=6.0),
        Length(n_tokens=24, n_records=9, per_token_ms=5.75, per_step_ms=6.0),
    ),
)


def failed(figures: Figures) -> list[str]:
    """Return the claims that do not hold."""
    return [claim.text for claim in judge_figures(figures) if not claim.holds]


@pytest.fixture(scope="module")
def table() -> Table:
    """Return the committed records."""
    return table_of(RECORDS)


def test_good_figures_hold_every_claim() -> None:
    assert failed(GOOD) == []


@pytest.mark.parametrize("target", [0, 1])
@pytest.mark.parametrize(("index", "bound"), list(enumerate(RATIOS.values())))
def test_either_error_above_its_ratio_fails_its_own_claim(
    index: int, bound: float, target: int
) -> None:
    errors = [0.02, 0.02]
    errors[target] *= bound * 1.01
    rows = list(GOOD.rows)
    rows[index] = replace(rows[index], errors=(errors[0], errors[1]))

    (text,) = failed(replace(GOOD, rows=tuple(rows)))

    assert rows[index].split in text


@pytest.mark.parametrize("share", [0.92, 0.98])
def test_a_quantile_that_covers_another_share_fails(share: float) -> None:
    (text,) = failed(replace(GOOD, coverage={**GOOD.coverage, "other": share}))

    assert text.startswith("P95 holds")


@pytest.mark.parametrize(
    "taken",
    [
        replace(GOOD.taken, n_records=1_499),
        replace(GOOD.taken, n_records=1_499, n_asked=1_499),
        replace(GOOD.taken, n_left_out=1),
        replace(GOOD.taken, least_repeats=PASSES[-1] - 1),
    ],
)
def test_calls_that_are_missing_fail(taken: Taken) -> None:
    (text,) = failed(replace(GOOD, taken=taken))

    assert text.startswith("Every call that was asked for is a record")


@pytest.mark.parametrize(
    ("longest", "expected"),
    [
        (replace(GOOD.lengths[1], per_step_ms=8.0), "Decode / (N - 1) of every output length"),
        (replace(GOOD.lengths[1], per_token_ms=4.9), "Decode / N of the shortest outputs"),
    ],
)
def test_each_definition_of_decode_can_fail(longest: Length, expected: str) -> None:
    (text,) = failed(replace(GOOD, lengths=(GOOD.lengths[0], longest)))

    assert text.startswith(expected)


def test_the_committed_records_can_all_be_read_and_are_few_bytes() -> None:
    reader = read_records(RECORDS)
    records = list(reader)

    assert dict(reader.left_out) == {}
    assert len(records) == N_ASKED >= 1_500
    assert RECORDS.stat().st_size < MOST_BYTES
    assert {record["measure"] for record in records} == {"cpu_ms"}
    assert all("contended_ratio" in record for record in records)


def test_the_committed_records_are_of_27_configurations_and_lengths_from_2_to_24(
    table: Table,
) -> None:
    assert len(table.configurations) == 27
    assert (table.output_tokens.min(), table.output_tokens.max()) == (2, 24)
    assert set(np.bincount(works_of(table))) == {PASSES[-1]}


def test_the_circumstances_of_the_records_are_kept_beside_them() -> None:
    circumstances = read_circumstances()

    assert CIRCUMSTANCES.parent == RECORDS.parent
    assert circumstances.n_asked == N_ASKED
    assert len(circumstances.loads) == 1 + len(PASSES)
    assert circumstances.environment.settings["n_threads"] == 1


def test_no_split_judges_what_it_was_trained_on(table: Table) -> None:
    works = works_of(table)
    splits = folds_of(table, works)

    for known, out in splits["random"] + splits["50 records"]:
        assert not set(works[known]) & set(works[out])
    for known, out in splits["unseen configurations"]:
        assert not set(table.configuration[known]) & set(table.configuration[out])
    [(below, top)] = splits["extrapolation"]
    for name in CONFIGURATION:
        assert table.columns[name][below].max() < table.columns[name][top].max()
    assert {int(known.sum()) for known, _ in splits["50 records"]} == {50}


@pytest.mark.parametrize("split", ["random", "unseen configurations"])
def test_every_record_is_judged_once(split: str, table: Table) -> None:
    folds = folds_of(table, works_of(table))[split]

    assert np.array_equal(np.sum([out for _, out in folds], axis=0), np.ones(len(table)))


def test_what_is_documented_of_decode_follows_from_the_committed_records(table: Table) -> None:
    figures = read_evidence(Evidence[Figures], NAME).figures
    shares = [
        record["contended_ratio"]
        for record in read_records(RECORDS)
        if record["contended_ratio"] is not None
    ]

    assert figures.lengths == lengths_of(table)
    assert figures.taken == taken_of(table, shares)
    assert (DOCS / FIGURE).read_text(encoding="utf-8") == draw(figures.lengths)


def test_the_figure_shows_a_point_of_each_definition_for_each_length() -> None:
    figure = decode_figure([(24, 5.75), (2, 3.0)], [(2, 6.0), (24, 6.0)])

    assert figure.count("<circle") == 4
    assert figure.count("<polyline") == 2
    assert ">T / (N - 1)</text>" in figure
