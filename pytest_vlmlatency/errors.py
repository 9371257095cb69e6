"""The few exceptions that a user can meet.

Owns the types, and how another exception is quoted. Every message is written where the numbers are:
cause, expected, fix.
"""

from pytest_vlmlatency.printing import printable, without_secrets


class Quoting:
    """An exception or a warning that quotes foreign text: shown without control characters.

    Nor does it show passwords and queries of URLs; see `printing`.
    """

    def __str__(self) -> str:
        """Return the message, each line of it as it can be printed."""
        lines = without_secrets(super().__str__()).split("\n")
        return "\n".join(map(printable, lines))


class VlmLatencyError(Quoting, Exception):
    """Whatever this package refuses to do, or to print. `exit_status` ends a command with it."""

    exit_status = 1


class UsageProblem(VlmLatencyError):
    """An option, marker key or argument that means nothing; pytest shows it as a usage error."""

    exit_status = 2  # as argparse ends


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


def reason_in_words(problem: BaseException) -> str:
    """Return why a file could not be read, as a sentence's part; a group's reasons one by one."""
    if isinstance(problem, BaseExceptionGroup):
        return "; ".join(map(reason_in_words, problem.exceptions))
    if isinstance(problem, KeyError):
        return f"{problem.args[0]!r} is missing" if problem.args else "a key is missing"
    if isinstance(problem, OSError) and problem.strerror:
        return problem.strerror
    return str(problem) or type(problem).__name__
