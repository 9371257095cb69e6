"""What options and repository say about fresh pairs, and what opens them for a gate.

Owns the settings of a confirmation inside pytest. When a gate asks for pairs is `judging`'s, how
they are measured `confirmation`'s.
"""

from __future__ import annotations

import gc
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.arguments import invocation_of
from pytest_vlmlatency.paired.checkouts import default_paths
from pytest_vlmlatency.paired.commits import repository_of
from pytest_vlmlatency.paired.pairs import FreshPairs, open_pairs
from pytest_vlmlatency.errors import NotConfirmed
from pytest_vlmlatency.printing import print_line
from pytest_vlmlatency.session.assembly import status_line
from pytest_vlmlatency.session.command_line import said_in_ini, setting
from pytest_vlmlatency.session.keeping import home_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    import pytest

TIME_LIMIT_S = 600.0


class PairsOpener:
    """Opens fresh pairs of the working tree against one commit after the other.

    All of them share one time limit.
    """

    def __init__(self, config: pytest.Config, root: Path) -> None:
        self._root = root
        self._invocation = invocation_of(config)
        self._paths = _paths(config, root)
        self._setup = setting(config, "--vlm-confirm-setup")
        limit_s = setting(config, "--vlm-confirm-time")
        self._left_s = TIME_LIMIT_S if limit_s is None else float(str(limit_s))
        self._say = sayer(config)
        self._bar = status_line(config)

    def __call__(self, commit: str) -> AbstractContextManager[FreshPairs]:
        """Open pairs against a commit; NotConfirmed where it cannot be checked out."""
        return self._opened(commit)

    @contextmanager
    def _opened(self, commit: str) -> Iterator[FreshPairs]:
        free_memory()
        opened = open_pairs(
            self._root,
            baseline=commit,
            setup=None if self._setup is None else str(self._setup),
            paths=self._paths,
            invocation=self._invocation,
            time_limit_s=self._left_s,
            say=self._say,
            bar=self._bar,
        )
        with opened as pairs:
            try:
                yield pairs
            finally:
                self._left_s = max(self._left_s - pairs.confirmation().time_s, 0.0)


def pairs_opener(config: pytest.Config) -> PairsOpener:
    """Return what opens fresh pairs for this run; NotConfirmed says why there can be none."""
    if config.getoption("vlm_no_confirm", None):
        raise NotConfirmed("--vlm-no-confirm")
    is_asked = config.getoption("vlm_confirm", None)
    if not is_asked and said_in_ini(config, "--vlm-confirm") is False:
        raise NotConfirmed("vlm_confirm is false in the ini file")
    return PairsOpener(config, repository_of(home_of(config)))


def free_memory() -> None:
    """Let go of what this process still holds on devices, for the processes that come now.

    Fixtures are torn down by now; the error of a failed test may still hold its model, by its
    frames. Where no test used torch here, as beside workers, it is not imported for this.
    """
    for name in ("last_exc", "last_value", "last_traceback", "last_type"):
        if hasattr(sys, name):
            delattr(sys, name)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _paths(config: pytest.Config, root: Path) -> Sequence[str]:
    said = setting(config, "--vlm-confirm-path")
    assert said is None or isinstance(said, list), "an option of several values"
    return said or default_paths(root, config.rootpath)


def sayer(config: pytest.Config) -> Callable[[str], None]:
    """Return what prints a line of progress, where there is a terminal's report."""
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None:
        return lambda _line: None
    return lambda line: print_line(reporter, line)
