"""Every way to call generate(), in families that are wired differently: right, or refused."""

from collections.abc import Iterator
from functools import cache

import pytest

from tests.modes import FAMILIES, MODES, Mode, Outcome, judge
from tests.threads import torch_threads
from tests.zoo import Specimen, build

HARDEST = ("llava", "qwen2_vl", "mllama", "blip-2", "git", "florence2")
"""The other families are in the table of docs/coverage.md, which is made by the same code."""
QUICK = ("llava", "mllama")
"""All modes of these, and every cell that is refused, are in `make test`; the others are slow."""


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A bare call is to give what a measured one does, to the last bit: on one thread, too."""
    with torch_threads(1):
        yield


@cache
def specimen(family: str) -> Specimen:
    """Return a family's model, built once; each cell checks that it is left as it was."""
    return build(family)


@pytest.mark.filterwarnings("ignore:.output_attentions=True. is not supported with")  # not raised
@pytest.mark.parametrize(
    ("mode", "family"),
    [
        pytest.param(
            mode,
            family,
            id=f"{mode.name}, {family}",
            marks=pytest.mark.slow
            if family not in QUICK and mode.expects(family)[0] is Outcome.RIGHT
            else (),
        )
        for mode in MODES
        for family in HARDEST
    ],
)
def test_each_mode_is_measured_right_or_says_why_not(mode: Mode, family: str) -> None:
    outcome, words = mode.expects(family)

    verdict = judge(mode, specimen(family))

    assert verdict.outcome is outcome, verdict.why
    assert any(one in verdict.why for one in words.split(" or ")), verdict.why


def test_the_table_is_as_large_as_promised() -> None:
    assert len(MODES) >= 14
    assert len(FAMILIES) >= len(HARDEST) >= 6
    assert len({mode.name for mode in MODES}) == len(MODES)
