"""What every estimator answers, whatever it is made of: milliseconds before anything has run.

Budgets, search, quantiles and evaluation are written once on top of these calls. The number of
output tokens is unknown when a prediction is needed, so it is never an input.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from pytest_vlmlatency.estimator.inputs import FloatArray, Knob

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from pytest_vlmlatency.estimator.columns import Record, Source, Table

PREFILL = "T_prefill_total"
DECODE_STEP = "T_decode_per_step"
TARGETS = (PREFILL, DECODE_STEP)

Prediction = dict[str, FloatArray]  # both targets, in ms, a row a request


class Estimator(Protocol):
    """Predicts prefill and the mean decode step, T_LLM_decode / (output_tokens - 1)."""

    @property
    def kind(self) -> str:
        """What a file says that it holds, such as "roofline"."""

    @property
    def inputs(self) -> tuple[str, ...]:
        """The inputs that a prediction needs."""

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What was declared beyond the five inputs."""

    @property
    def machine(self) -> str | None:
        """The fingerprint of the machine that the records were measured on, if they say it."""

    def fit(self, records: Source | Table) -> Self:
        """Learn from records: dicts, a file, a folder."""

    def predict_batch(self, columns: Mapping[str, object]) -> Prediction:
        """Return both targets in ms, one row a request."""

    def predict_quantile(self, columns: Mapping[str, object], q: float) -> Prediction:
        """Return what a share `q` of measured values stays below, in ms."""

    def is_extrapolated(self, columns: Mapping[str, object]) -> object:
        """Return, for each row, whether an input lies outside what was measured."""

    def predict_from_config(self, config: Mapping[str, object]) -> Mapping[str, object]:
        """Return both targets in ms: floats for scalars, arrays for lists, tensors for tensors."""

    def predict(self, config: Mapping[str, object]) -> Mapping[str, object]:
        """Return what `predict_from_config` returns."""

    def update(self, record: Record) -> None:
        """Recalibrate on one more record, as after a change of the hardware."""

    def for_machine(self, machine: str | None) -> Self:
        """Return the estimator, with a warning if it was measured on another machine."""

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a file that `load_estimator` reads, and that runs no code."""
