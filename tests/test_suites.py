"""Which tests `make test` runs, and in which order all of them run."""

import subprocess

from tests.projects import REPOSITORY
from tests.warm_python import warm_python

ALL, OF_THE_ZOO = "tests/gate/test_ab.py", "tests/zoo/test_zoo.py"


def collected(*options: str) -> str:
    command = (warm_python(), "-m", "pytest", "--collect-only", "-q", *options, OF_THE_ZOO, ALL)
    return subprocess.run(
        command, cwd=REPOSITORY, capture_output=True, text=True, check=True
    ).stdout


def test_what_is_marked_slow_is_left_out_of_make_test() -> None:
    """The marks have to be there before pytest chooses by them."""
    found = collected("-m", "not slow")

    assert ALL not in found
    assert "[llava]" in found
    assert "[idefics2]" not in found


def test_files_whose_tests_take_longest_come_first() -> None:
    found = collected()

    assert found.startswith(ALL)
    assert "[idefics2]" in found
