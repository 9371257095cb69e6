from __future__ import annotations

from typing import TYPE_CHECKING

from tests.projects import in_subprocess

if TYPE_CHECKING:
    import pytest

REPORT_MODULES = """\
def pytest_unconfigure(config):
    import sys

    heavy = {"torch", "transformers", "numpy", "cattrs", "filelock", "scipy", "pynvml"}
    print("heavy:", sorted(heavy & set(sys.modules)))
    ours = [name for name in sys.modules if name.startswith("pytest_vlmlatency.")]
    print("ours:", sorted(ours))
"""


def test_pytest_starts_without_heavy_packages_and_with_little_of_ours(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(REPORT_MODULES)
    pytester.makepyfile(test_empty="")

    result = in_subprocess(pytester, monkeypatch, "--collect-only", is_new=True)

    names = ["plugin", "session", "session.command_line", "session.option_table"]
    result.stdout.fnmatch_lines(
        ["heavy: []", f"ours: {sorted(f'pytest_vlmlatency.{name}' for name in names)}"]
    )


def test_tests_that_measure_nothing_run_without_heavy_packages(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(REPORT_MODULES)
    pytester.makepyfile(test_x="def test_other():\n    pass\n")

    result = in_subprocess(pytester, monkeypatch, "--gpu", is_new=True)

    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["heavy: []"])


def test_collecting_tests_that_measure_imports_no_torch(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makeconftest(REPORT_MODULES)
    pytester.makepyfile(test_x="def test_caption(vlm_latency):\n    pass\n")

    result = in_subprocess(pytester, monkeypatch, "--collect-only", is_new=True)

    result.stdout.fnmatch_lines(["heavy: []"])
