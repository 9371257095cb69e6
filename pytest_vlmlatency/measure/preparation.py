"""Before each call, unmeasured: the configuration is applied and read back, the arguments made."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import KnobNotApplied, UsageProblem

if TYPE_CHECKING:
    from pytest_vlmlatency.measure.interception import Target
    from pytest_vlmlatency.options import Configuration

__tracebackhide__ = True  # an error inside generate() points at the user's own code

Arguments = tuple[Sequence[object], Mapping[str, object]]


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
        return _joined(target, target.args, target.kwargs)
    if target.args or target.kwargs:
        raise UsageProblem("setup returned arguments, but args or kwargs were given as well")
    if not (isinstance(fresh, tuple) and len(fresh) == 2 and isinstance(fresh[1], Mapping)):
        raise UsageProblem(
            f"setup returned {type(fresh).__name__}; expected (args, kwargs), or None to use those "
            f"that were given"
        )
    return _joined(target, tuple(fresh[0]), fresh[1])


def _joined(target: Target, args: Sequence[object], kwargs: Mapping[str, object]) -> Arguments:
    return (*target.bound_args, *args), {**target.bound_kwargs, **kwargs}
