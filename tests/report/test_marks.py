"""Every mark that a case can have is explained."""

import pytest

from pytest_vlmlatency.report.terminal import meaning_of
from tests.modes import MODES

LABELS = sorted({label for mode in MODES for label in mode.labels})


@pytest.mark.parametrize("label", [*LABELS, "video", "compiled", "autocast-float16"])
def test_a_label_of_a_mode_is_explained(label: str) -> None:
    assert meaning_of(label)


def test_a_mark_that_nobody_knows_is_not_explained() -> None:
    assert meaning_of("unknown") is None
