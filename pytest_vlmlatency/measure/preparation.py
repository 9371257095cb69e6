"""Before each call, unmeasured: the configuration is applied and read back, the arguments made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import TYPE_CHECKING, Protocol

from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem

if TYPE_CHECKING:
    import torch

    from pytest_vlmlatency.measure.interception import Target
    from pytest_vlmlatency.records import Scalar

Arguments = tuple[Sequence[object], Mapping[str, object]]


class Configuration(Protocol):
    """A setting of a model's run-time knobs, applied for a call and undone after it."""

    def values(self) -> Mapping[str, Scalar]:
        """Return the knobs and what they shall be."""

    def apply(self, model: torch.nn.Module, /) -> AbstractContextManager[object]:
        """Return a context manager that sets the knobs, and puts them back."""

    def read_back(self, model: torch.nn.Module, /) -> Mapping[str, Scalar]:
        """Return what the knobs are now, read from the parts that run."""


def as_configuration(config: object) -> Configuration | None:
    """Return `config` if it can be applied and read back, else raise UsageProblem."""
    if config is None:
        return None
    missing = [
        name
        for name in ("values", "apply", "read_back")
        if not callable(getattr(config, name, None))
    ]
    if missing:
        raise UsageProblem(
            f"config is {config!r}, without {', '.join(missing)}(); expected an object with "
            f"values(), apply(model) and read_back(model), such as models.knobs.MolmoeConfiguration"
        )
    return config  # type: ignore[return-value]  # checked above


@contextmanager
def prepared(
    target: Target, config: Configuration | None, setup: Callable[[], object] | None
) -> Iterator[Arguments]:
    """Yield the arguments of one call while the configuration is in force."""
    if config is None:
        yield _arguments(target, setup)
        return
    with config.apply(target.model):
        wanted, found = dict(config.values()), dict(config.read_back(target.model))
        if wanted != found:
            raise KnobNotApplied(
                f"the configuration {wanted} did not take effect: the model has {found}; expected "
                f"them to be equal. Does this model have these knobs?"
            )
        yield _arguments(target, setup)


def _arguments(target: Target, setup: Callable[[], object] | None) -> Arguments:
    fresh = setup() if setup else None
    if fresh is None:
        return target.args, target.kwargs
    if target.args or target.kwargs:
        raise UsageProblem("setup returned arguments, but args or kwargs were given as well")
    if not (isinstance(fresh, tuple) and len(fresh) == 2 and isinstance(fresh[1], Mapping)):
        raise UsageProblem(
            f"setup returned {type(fresh).__name__}; expected (args, kwargs), or None to use those "
            f"that were given"
        )
    return tuple(fresh[0]), fresh[1]
