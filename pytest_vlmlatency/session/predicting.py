"""`--vlm-predict`: what an estimator expected of each case, beside what was measured.

Loaded only where the option is given. Owns what may be compared: the same kind of time on the same
machine, of a case whose configuration the estimator knows. Whatever else is said, never guessed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from pytest_vlmlatency.errors import EstimatorProblem
from pytest_vlmlatency.estimator.calibrated import CalibratedEstimator
from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.files import load_estimator
from pytest_vlmlatency.estimator.protocol import DECODE_STEP, PREFILL
from pytest_vlmlatency.estimator.recipes import Recipe, explained
from pytest_vlmlatency.estimator.terms import amounts_of
from pytest_vlmlatency.export import records_of
from pytest_vlmlatency.printing import printable_lines
from pytest_vlmlatency.records import WALL, Prediction, Standing, fingerprint_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from pytest_vlmlatency.estimator.columns import Table
    from pytest_vlmlatency.records import Case, Run

QUANTILES = (0.05, 0.5, 0.95)
TIER = ("tier", "tier_idx")  # an estimator that does without it knows it by its vision tokens


def open_forecast(path: Path) -> Forecast:
    """Return the predictions of an estimator's file; one that cannot be read is a UsageError."""
    try:
        estimator = load_estimator(path)
        assert isinstance(estimator, CalibratedEstimator), "every kind is one"
        if DECODE_STEP not in estimator.state.spreads:
            raise explained(Recipe.ORIGIN, DECODE_STEP)
        return Forecast(path.name, estimator)
    except EstimatorProblem as problem:
        told = "\n".join(printable_lines(f"--vlm-predict: {problem}"))
        raise pytest.UsageError(told) from problem


class Forecast:
    """An estimator, asked about cases that were measured."""

    def __init__(self, name: str, estimator: CalibratedEstimator[Any]) -> None:
        self._name, self._estimator = name, estimator
        self._measure = estimator.state.conditions.get("measure", WALL)

    def beside(self, run: Run) -> Run:
        """Return the run with a prediction, or the reason for none, at each measured case."""
        told = (
            replace(case, prediction=self._prediction(run, case)) if case.is_measured else case
            for case in run.cases
        )
        return replace(run, cases=tuple(told))

    def _prediction(self, run: Run, case: Case) -> Prediction:
        nothing = Prediction(estimator=self._name, measure=self._measure)
        found = records_of(replace(run, cases=(case,)), measure=self._measure)
        if not found.records:
            why = "; ".join(one.first[0] for one in found.left_out.values()) or "it has no call"
            return replace(nothing, refused_because=why)
        try:
            unlike = self._unlike(found.records[0])
            if unlike:
                return replace(nothing, refused_because="; ".join(unlike))
            table = table_of(found.records, knobs=self._estimator.knobs)
            return self._judged(nothing, table, fingerprint_of(run.environment))
        except EstimatorProblem as problem:
            return replace(nothing, refused_because=str(problem))

    def _unlike(self, record: Mapping[str, Any]) -> list[str]:
        """Return what of a case the estimator cannot know: its input, or all of its records."""
        state, estimator = self._estimator.state, self._estimator
        known = {*estimator.inputs, *(knob.name for knob in estimator.knobs), *TIER}
        configuration = record["configuration"]
        return [
            f"its configuration sets {name}, which is no input of {self._name}"
            for name in configuration
            if name not in known
        ] + [
            f"its {name} is {record.get(name)}, and all records of {self._name} have {value}"
            for name, value in state.conditions.items()
            if str(record.get(name)) != value
        ]

    def _judged(self, nothing: Prediction, table: Table, machine: str) -> Prediction:
        asked = {name: values[:1] for name, values in table.columns.items()}
        n_steps = table.decode_steps[0]
        low, middle, high = (
            float((at[PREFILL] + n_steps * at[DECODE_STEP])[0])
            for at in (self._estimator.predict_quantile(asked, q) for q in QUANTILES)
        )
        measured_ms = float(np.median(table.prefill_ms + table.decode_ms))
        standing = _standing(measured_ms, low, high)
        notes = self._about(machine)
        is_judged = self._estimator.machine in (None, machine)
        return replace(
            nothing,
            p5_ms=low,
            p50_ms=middle,
            p95_ms=high,
            measured_ms=measured_ms,
            standing=standing if is_judged else Standing.NOT_JUDGED,
            outside=self._outside(asked),
            notes=notes,
        )

    def _about(self, machine: str) -> tuple[str, ...]:
        """Return what is to be said of the machine that the estimator was measured on."""
        theirs = self._estimator.machine
        if theirs == machine:
            return ()
        if theirs is None:
            return (
                f"{self._name} does not say which machine it was measured on; on another one than "
                f"this its predictions are off by any factor.",
            )
        return (
            f"{self._name} was measured on another machine, {theirs}, and this is {machine}: its "
            f"predictions may be off by any factor, and no case is judged by them. Fit one on "
            f"records of this machine.",
        )

    def _outside(self, asked: Mapping[str, Any]) -> tuple[str, ...]:
        amounts = amounts_of(asked)
        return tuple(
            f"{name} is {amounts[name][0]:g}, measured from {low:g} to {high:g}"
            for name, (low, high) in self._estimator.state.ranges.items()
            if name in amounts and not low <= amounts[name][0] <= high
        )


def _standing(measured_ms: float, low_ms: float, high_ms: float) -> Standing:
    if measured_ms > high_ms:
        return Standing.SLOWER
    return Standing.FASTER if measured_ms < low_ms else Standing.WITHIN
