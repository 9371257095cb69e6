"""The few exceptions that a user can meet.

Owns the types only. Every message is written where the numbers are, and says what was seen, what
was expected, and what to do next.
"""


class VlmLatencyError(Exception):
    """Whatever this package refuses to do, or to print."""


class UsageProblem(VlmLatencyError):
    """An option, marker key or argument that means nothing; pytest shows it as a usage error."""


class InvalidMeasurement(VlmLatencyError):
    """A timing that cannot be true, so it is neither printed nor stored."""


class PhasesNotFound(VlmLatencyError):
    """A model in which vision, blocks or step could not be told apart."""


class KnobNotApplied(VlmLatencyError):
    """A configuration that the model did not take over."""


class ModelNotLoaded(VlmLatencyError):
    """A `--vlm-model` that cannot be loaded as asked."""


class NoAccelerator(VlmLatencyError):
    """An accelerator was asked for and is not there, or the model lives elsewhere."""


class OverBound(VlmLatencyError, AssertionError):
    """A median above the bound that a test gave to `check`."""


class HistoryProblem(VlmLatencyError):
    """A history that cannot be listed or written to, or a run that is not in it."""


class NotConfirmed(VlmLatencyError):
    """Fresh pairs of processes that could not be measured, or not on the code they were for."""


class EstimatorProblem(VlmLatencyError):
    """Records, inputs or a file that an estimator cannot answer for."""


class RecordsProblem(VlmLatencyError):
    """Training records that cannot be read or written at all."""
