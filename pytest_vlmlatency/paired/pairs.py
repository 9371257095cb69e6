"""Fresh pairs: a process of each side after the other, in ABBA order, for as long as is asked.

A drift of the machine falls on both sides alike: the side that was first in one pair is second in
the next. One launch measures every test that is still asked about, since it costs imports and a
model's loading. What was measured is kept, whatever ends it.

How long confirming can take, in words: before it begins, and while it runs. Pure.

Every bound is the worst case: each pair that the rules may need, or the time limit if that is less.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.paired.changes import lay_over, take_off
from pytest_vlmlatency.paired.checkouts import Checkouts, Side, open_checkouts
from pytest_vlmlatency.paired.launch import Launch, Launched, MeasuredNothing, OutOfTime
from pytest_vlmlatency.paired.observer import NOT_COLLECTED
from pytest_vlmlatency.paired.own_tests import former_name, renamed_files, tests_missing_in
from pytest_vlmlatency.printing import plural, tell
from pytest_vlmlatency.records import Confirmation, Run
from pytest_vlmlatency.signals import interruption

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from pytest_vlmlatency.paired.arguments import Invocation


OTHER_ID = (
    "a fresh process of the same code did not collect this test, so its id differs between "
    "processes: give its parameters names, with pytest.param(..., id='small') or ids=[...]"
)


class Pair(NamedTuple):
    """One launch of each side: two runs, of the tests that were asked about then."""

    baseline: Run
    candidate: Run


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A test that one side could not measure: it is left out of further pairs.

    `is_missing`: the baseline's commit does not have the test, which is no failure of its code.
    """

    test: str
    side: Side
    reason: str
    is_missing: bool = False


class Bar(Protocol):
    """One line of a terminal that is written again and again."""

    def show(self, text: str) -> None:
        """Write over the line."""

    def clear(self) -> None:
        """Take the line away."""


class FreshPairs:
    """Measures pairs of two checkouts, as many as are asked for in all, within a time limit.

    `say` writes lines that stay. How far it is goes to `bar`, and without one (a log) to `say`,
    after each pair.
    """

    def __init__(
        self,
        checkouts: Checkouts,
        invocation: Invocation,
        *,
        time_limit_s: float,
        say: Callable[[str], None] = tell,
        bar: Bar | None = None,
        limit_option: str = "--vlm-confirm-time",
    ) -> None:
        self.cut_short_because: str | None = None
        self.interrupted_by: str | None = None
        self._checkouts = checkouts
        self._invocation = invocation
        self._time_limit_s = time_limit_s
        self._say = say
        self._bar = bar
        self._limit_option = limit_option
        self._most_pairs: int | None = None
        self._pairs: list[Pair] = []
        self._failures: dict[str, Failure] = {}
        self._measured: set[str] = set()
        self._imported: dict[Side, tuple[str, ...]] = {}
        self._benchmark: frozenset[Path] | None = None
        self._took_s: list[float] = []

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The pairs so far, in order; a later one may hold fewer tests."""
        return tuple(self._pairs)

    @property
    def failures(self) -> tuple[Failure, ...]:
        """The tests that a side could not measure, and why."""
        return tuple(self._failures.values())

    def extend_to(
        self, n_pairs: int, tests: Sequence[str], *, most_pairs: int | None = None
    ) -> tuple[Pair, ...]:
        """Return the first `n_pairs` in all, new ones of `tests` only (as `Case.test` names them).

        Fewer where something ended it (the time limit, Ctrl-C, SIGTERM), which `cut_short_because`
        names, or where every test failed. The first call's tests have to include those of all
        later ones. `most_pairs` is how many may be needed in all, None where that is not known.
        """
        tests = tuple(test for test in dict.fromkeys(tests) if test not in self._failures)
        if len(self._pairs) >= n_pairs or self.cut_short_because is not None or not tests:
            return self.pairs[:n_pairs]
        self._most_pairs = most_pairs
        try:
            if self._benchmark is None:
                self._benchmark = self._lay_over(tests)
                before = told_before(len(tests), self._forecast(), limit_option=self._limit_option)
                self._say(before)
            while len(self._pairs) < n_pairs and tests and self._may_go_on():
                self._add_pair(tests)
                tests = tuple(test for test in tests if test not in self._failures)
        except KeyboardInterrupt as end:
            self.interrupted_by = interruption(end)
            self.stop(f"{self.interrupted_by} in pair {len(self._pairs) + 1}")
        finally:
            if self._bar is not None:
                self._bar.clear()
        return self.pairs[:n_pairs]

    def stop(self, because: str) -> None:
        """Measure no more pairs; what was measured is kept."""
        if self._bar is not None:
            self._bar.clear()
        self.cut_short_because = because
        if self._pairs or self.interrupted_by is None:
            self._say(f"Confirming ends early: {because}.")

    def look_for_missing_tests(self) -> None:
        """Find out which tests the baseline failed to measure because it does not have them.

        Only of tests that the candidate measured in a fresh process, and not of those that the
        baseline has in a file of another name. To be called once no more pairs are needed: the
        baseline gets its own files back for it.
        """
        failed = [
            test
            for test, failure in self._failures.items()
            if failure.side is Side.BASELINE and test in self._measured
        ]
        if not failed or self.interrupted_by is not None:
            return
        take_off(self._benchmark or (), self._checkouts.baseline)
        self._benchmark = None
        former = self._former_names(failed)
        missing = tests_missing_in(self._prepared(Side.BASELINE, tuple(former.values())))
        for test in failed:
            if former[test] in missing:
                self._failures[test] = replace(self._failures[test], is_missing=True)

    def confirmation(self) -> Confirmation:
        """Return what is to be reported of the pairs so far."""
        return Confirmation(
            n_pairs=len(self._pairs),
            time_s=sum(self._took_s),
            baseline=self._checkouts.baseline.described,
            candidate=self._checkouts.candidate.described,
            imported={str(side): imported for side, imported in self._imported.items()},
            cut_short_because=self.cut_short_because,
            interrupted_by=self.interrupted_by,
            failures=tuple(
                f"The {failure.side} could not measure {failure.test}: {failure.reason}"
                for failure in self.failures
                if not failure.is_missing
            ),
        )

    def _add_pair(self, tests: tuple[str, ...]) -> None:
        index = len(self._pairs)
        order = (
            (Side.BASELINE, Side.CANDIDATE) if index % 2 == 0 else (Side.CANDIDATE, Side.BASELINE)
        )
        runs: dict[Side, Run] = {}
        for side in order:
            try:
                launched = self._launch(side, tests)
            except OutOfTime:
                self._out_of_time(f"was over in pair {index + 1}")
                return
            except MeasuredNothing:
                if side is Side.BASELINE and not runs:
                    self._try_candidate(tests)
                raise
            runs[side] = launched.run
            self._remember(side, launched)
            if self._bar is not None:
                self._bar.show(told_within(self._forecast()))
        pair = Pair(baseline=runs[Side.BASELINE], candidate=runs[Side.CANDIDATE])
        self._pairs.append(pair)
        if self._bar is None:
            self._say(told_within(self._forecast()))

    def _try_candidate(self, tests: tuple[str, ...]) -> None:
        """Learn what the candidate measures itself, where the baseline measures nothing."""
        try:
            self._remember(Side.CANDIDATE, self._launch(Side.CANDIDATE, tests))
        except (OutOfTime, NotConfirmed):
            return

    def _former_names(self, tests: Sequence[str]) -> dict[str, str]:
        """Return tests by what the baseline calls them, where their files were renamed since."""
        candidate = self._checkouts.candidate
        after = candidate.commit if candidate.is_worktree else None
        renamed = renamed_files(candidate.root, self._checkouts.baseline.commit, after)
        return {test: former_name(test, renamed) for test in tests}

    def _launch(self, side: Side, tests: tuple[str, ...]) -> Launched:
        start_s = time.monotonic()
        try:
            launch = self._prepared(side, tests)
            return launch.run(timeout_s=self._time_limit_s - sum(self._took_s))
        except MeasuredNothing as problem:
            self._remember_failures(side, problem.failed)
            raise
        finally:
            self._took_s.append(time.monotonic() - start_s)

    def _prepared(self, side: Side, tests: tuple[str, ...]) -> Launch:
        return Launch(
            checkout=self._checkouts.on(side),
            other=self._checkouts.on(side.other),
            working_tree=self._checkouts.working_tree,
            invocation=self._invocation,
            tests=tests,
            benchmark=self._benchmark or frozenset(),
            scratch=self._checkouts.scratch,
        )

    def _remember_failures(self, side: Side, failed: Mapping[str, str]) -> None:
        """Keep why a test is left out; a failure of the candidate says more than the baseline's."""
        for test, reason in failed.items():
            if side is Side.CANDIDATE or test not in self._failures:
                told = OTHER_ID if (side, reason) == (Side.CANDIDATE, NOT_COLLECTED) else reason
                self._failures[test] = Failure(test=test, side=side, reason=told)

    def _remember(self, side: Side, launched: Launched) -> None:
        self._remember_failures(side, launched.failed)
        if side is Side.CANDIDATE:
            self._measured |= {str(case.test) for case in launched.run.cases}
        known = self._imported.setdefault(side, launched.imported)
        self._imported[side] = tuple(dict.fromkeys((*known, *launched.imported)))

    def _may_go_on(self) -> bool:
        """Whether another pair fits, by the forecast; the first one is tried in any case."""
        if self.cut_short_because is not None:
            return False
        forecast = self._forecast()
        pair_s, left_s = forecast.pair_s, forecast.left_s
        if pair_s is None or pair_s <= left_s:
            return True
        self._out_of_time(f"leaves {told_time(left_s)}, and a pair takes about {told_time(pair_s)}")
        return False

    def _out_of_time(self, why: str) -> None:
        limit = told_time(self._time_limit_s)
        self.stop(f"the time limit of {limit} ({self._limit_option}) {why}")

    def _forecast(self) -> Forecast:
        return Forecast(
            took_s=tuple(self._took_s),
            n_pairs=len(self._pairs),
            most_pairs=self._most_pairs,
            limit_s=self._time_limit_s,
        )

    def _lay_over(self, tests: tuple[str, ...]) -> frozenset[Path]:
        """Give the baseline the candidate's benchmark files and its pytest's configuration."""
        baseline, candidate = self._checkouts.baseline, self._checkouts.candidate
        files = sorted({Path(test.partition("::")[0]) for test in tests})
        outside = [file for file in files if not (candidate.root / file).is_file()]
        if outside:
            raise NotConfirmed(
                f"{outside[0]} is not in the candidate's checkout {candidate.root}; only tests "
                f"inside the repository can be run on another commit"
            )
        laid = lay_over(files, source=candidate, target=baseline)
        return laid | _configuration(self._invocation, self._checkouts)


@contextmanager
def open_pairs(
    root: Path,
    *,
    baseline: str,
    candidate: str | None = None,
    setup: str | None = None,
    paths: Sequence[str] = (),
    invocation: Invocation,
    time_limit_s: float,
    say: Callable[[str], None] = tell,
    bar: Bar | None = None,
) -> Iterator[FreshPairs]:
    """Check both sides out (see `open_checkouts`), and be ready to measure pairs of them."""
    opened = open_checkouts(
        root, baseline=baseline, candidate=candidate, setup=setup, paths=paths, say=say
    )
    with opened as checkouts:
        yield FreshPairs(checkouts, invocation, time_limit_s=time_limit_s, say=say, bar=bar)


def _configuration(invocation: Invocation, checkouts: Checkouts) -> frozenset[Path]:
    """Bring the ini file that the candidate is run with."""
    if invocation.inifile is None or not invocation.inifile.is_relative_to(checkouts.working_tree):
        return frozenset()
    file = invocation.inifile.relative_to(checkouts.working_tree)
    target, source = checkouts.baseline.root / file, checkouts.candidate.root / file
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(source.read_bytes())
    return frozenset({file})


S_PER_MIN = 60
SIDES = 2
N_CELLS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Where confirming stands: how long each launch took so far, and what bounds the rest.

    `most_pairs` is how many pairs the rules may need, None where that is not known yet. Fewer tests
    take less time, so a pair is forecast from the latest launches.
    """

    took_s: tuple[float, ...]
    n_pairs: int
    most_pairs: int | None
    limit_s: float

    @property
    def pair_s(self) -> float | None:
        """The seconds that a pair will take, None before the first launch."""
        return fmean(self.took_s[-2 * SIDES :]) * SIDES if self.took_s else None

    @property
    def left_s(self) -> float:
        """The seconds until the time limit."""
        return self.limit_s - sum(self.took_s)

    @property
    def most_s(self) -> float:
        """The seconds that the rest will take at most, counted from the latest launch's end."""
        left_s = max(self.left_s, 0.0)
        if self.pair_s is None or self.most_pairs is None:
            return left_s
        n_launches = SIDES * self.most_pairs - len(self.took_s)
        return min(left_s, max(n_launches, 0) * self.pair_s / SIDES)


def told_before(n_tests: int, forecast: Forecast, *, limit_option: str) -> str:
    """Return what confirming will cost at most; `limit_option` sets the time limit."""
    tests = plural(n_tests, "test")
    limit = f"{told_time(forecast.limit_s)} ({limit_option})"
    most = "" if forecast.most_pairs is None else f"{forecast.most_pairs} pairs or "
    return f"Confirming {tests} with fresh pairs of processes: at most {most}{limit}."


def told_within(forecast: Forecast) -> str:
    """Return how far confirming is, as one line with a bar of the worst case."""
    most = forecast.most_pairs
    so_far_s = sum(forecast.took_s)
    share = so_far_s / (so_far_s + forecast.most_s) if so_far_s else 0.0
    bar = f"{'#' * int(N_CELLS * share):.<{N_CELLS}}"
    of_most = "" if most is None else f" of at most {most}"
    return (
        f"[{bar}] {plural(forecast.n_pairs, 'fresh pair')}{of_most} in "
        f"{told_time(so_far_s)}, at most {told_time(forecast.most_s)} left"
    )


def told_time(seconds: float) -> str:
    """Return a duration as people say it."""
    if seconds < 2 * S_PER_MIN:
        return f"{seconds:.0f} s"
    return f"{seconds / S_PER_MIN:.0f} min"
