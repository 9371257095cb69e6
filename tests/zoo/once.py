"""Members of the zoo for tests that measure them: their image is encoded once in a call."""

import pytest

from tests.zoo.earlier import ENCODES_EACH_STEP

refused = pytest.mark.skipif(
    bool(ENCODES_EACH_STEP),
    reason="this transformers encodes its image in every step, which is refused (test_delays)",
)


def encoding_once(*names: str) -> tuple[object, ...]:
    """Return names to parametrise a test with, those marked that are refused where it runs."""
    return tuple(
        pytest.param(name, marks=refused) if name in ENCODES_EACH_STEP else name for name in names
    )
