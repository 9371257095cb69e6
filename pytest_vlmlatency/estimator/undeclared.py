"""Knobs that records have and that were not declared: what an estimator is off by for want of them.

A knob is what a record's `configuration` names. One that is no input of an estimator and differs
between records makes them contradict each other, unseen. So may a further field of the records, of
which few levels occur: it is named where it explains a good part of the error.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from shlex import quote
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.columns import configurations_of
from pytest_vlmlatency.estimator.evaluation import Split, judge_split
from pytest_vlmlatency.estimator.inputs import Column, Knob, column
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.roofline import RooflineEstimator
from pytest_vlmlatency.printing import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.estimator.gathered import Levels

N_SHOWN = 5
MOST_FIELDS = 10
WORTH_NAMING = 0.8
"""A field of the user's own is named where it lowers an error to this share of it, or less."""
TARGETS = {PREFILL: "prefill", DECODE_STEP: "decode step"}


class UndeclaredKnobs(UserWarning):
    """Records differ in knobs that no prediction can tell apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Undeclared:
    """A knob that was not declared. Errors are relative, on records held out, by target.

    `without` and `declared` are those of the default estimator without the knob and with it; {}
    where it cannot be declared (some records lack it), or where there are too few records.
    """

    name: str
    levels: tuple[str, ...]
    is_category: bool
    n_lacking: int
    without: Mapping[str, float]
    declared: Mapping[str, float]

    @property
    def is_worth_naming(self) -> bool:
        """Whether declaring it lowers an error much."""
        return any(
            error <= WORTH_NAMING * self.without[key] for key, error in self.declared.items()
        )

    @property
    def option(self) -> str:
        """How it is declared on the command line."""
        return f"--knob {quote(self.name)}{':category' if self.is_category else ''}"

    def told(self) -> str:
        """Return it as one line of a warning."""
        shown = ", ".join(self.levels[:N_SHOWN]) + (", ..." if len(self.levels) > N_SHOWN else "")
        if self.n_lacking:
            return f"{self.name} ({shown}): {self.n_lacking:,} records lack it"
        errors = "; ".join(
            f"{TARGETS[target]} {100 * self.without[target]:.1f} % without it, "
            f"{100 * error:.1f} % with it"
            for target, error in self.declared.items()
        )
        return f"{self.name} ({shown}): {errors or 'what it saves cannot be told'}"


def undeclared_knobs(table: Table) -> tuple[Undeclared, ...]:
    """Return the knobs of all records that differ and were not declared, what each would save."""
    if not (table.undeclared or table.further):
        return ()
    without = _errors(table)
    knobs = [_looked_at(table, *item, without) for item in table.undeclared.items()]
    fields = [item for item in table.further.items() if not item[1].has_many]
    others = [_looked_at(table, *item, without) for item in fields[:MOST_FIELDS]]
    return (*knobs, *(one for one in others if one.is_worth_naming))


def undeclared_text(found: Sequence[Undeclared]) -> str:
    """Return what a warning says of undeclared knobs; "" where there is none."""
    if not found:
        return ""
    options = printable(" ".join(one.option for one in found))
    lines = [f"  {printable(one.told())}" for one in found]
    return "\n".join(
        [
            "records differ in knobs that were not declared, and no prediction can tell them "
            "apart; the default estimator's mean error on records held out:",
            *lines,
            f"declare them: {options}, or knobs=[Knob(...)] of an estimator",
        ]
    )


def warn_of_undeclared(table: Table) -> None:
    """Warn of knobs that were not declared."""
    text = undeclared_text(undeclared_knobs(table))
    if text:
        warnings.warn(text, UndeclaredKnobs, stacklevel=3)


def _looked_at(table: Table, name: str, field: Levels, without: Mapping[str, float]) -> Undeclared:
    values = field.values()
    declared = {} if values is None else _errors_with(table, Knob(name, field.is_category), values)
    return Undeclared(
        name=name,
        levels=field.names,
        is_category=field.is_category,
        n_lacking=field.n_lacking,
        without=without,
        declared={key: error for key, error in declared.items() if key in without},
    )


def _errors_with(table: Table, knob: Knob, values: Column) -> Mapping[str, float]:
    try:
        columns = {**table.columns, knob.name: column(knob.name, values, knob.is_category)}
    except EstimatorProblem:  # numbers that are no amount, such as negative ones
        return {}
    knobs = (*table.knobs, knob)
    configuration, names = configurations_of(columns, knobs)
    return _errors(
        replace(
            table,
            columns=columns,
            knobs=knobs,
            configuration=configuration,
            configurations=names,
        )
    )


def _errors(table: Table) -> Mapping[str, float]:
    try:
        judged = judge_split(lambda: RooflineEstimator(knobs=table.knobs), table, Split.RANDOM)
    except EstimatorProblem:  # a category that no record of the fit has, or nothing to fit on
        return {}
    if judged is None:
        return {}
    return {target: score.relative_error for target, score in judged.scores().items()}
