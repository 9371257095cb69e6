from __future__ import annotations

import pytest

from tests.builders import see_accelerator
from tests.projects import WARNS_OF_ANY_WORKERS, in_subprocess, project

OWN_GPU = """\
    def pytest_addoption(parser):
        parser.addoption("--gpu", action="store", default="none")
    """

READS_OWN_GPU = """\
    def test_own(request, vlm_latency, _vlm_engine):
        vlm_latency(model.generate)
        assert request.config.getoption("--gpu") == "seven"
        assert _vlm_engine.options[-1].device is None
    """

NO_ACCELERATOR = "ERROR: --gpu: torch * sees no accelerator (built for *; visible: none); *"


@pytest.fixture(autouse=True)
def _no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    see_accelerator(monkeypatch, None)


def test_gpu_where_there_is_none_ends_the_run_before_any_test(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--gpu")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.parseoutcomes() == {}
    result.stderr.fnmatch_lines([NO_ACCELERATOR])


def test_gpu_is_no_error_for_tests_that_measure_nothing(pytester: pytest.Pytester) -> None:
    project(pytester, "def test_other():\n    pass\n")

    pytester.runpytest_inprocess("--gpu").assert_outcomes(passed=1)


def test_gpu_gives_the_engine_the_current_accelerator(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_accelerator(monkeypatch, "cuda")
    project(
        pytester,
        """\
        def test_device(vlm_latency, _vlm_engine):
            vlm_latency(model.generate)
            assert _vlm_engine.options[-1].device == "cuda"
        """,
    )

    pytester.runpytest_inprocess("--gpu").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("arguments", "device"), [((), "cpu"), (("--gpu",), "cuda"), (("--vlm-device=cpu",), "cpu")]
)
def test_vlm_device_is_where_a_test_puts_its_own_model(
    pytester: pytest.Pytester,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    device: str,
) -> None:
    see_accelerator(monkeypatch, "cuda")
    project(pytester, f"def test_device(vlm_device):\n    assert vlm_device == {device!r}\n")

    pytester.runpytest_inprocess(*arguments).assert_outcomes(passed=1)


def test_collecting_only_asks_for_no_device(pytester: pytest.Pytester) -> None:
    project(pytester)

    assert pytester.runpytest_inprocess("--gpu", "--collect-only").ret == pytest.ExitCode.OK


def test_gpu_on_the_command_line_beats_a_device_in_the_ini_file(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    see_accelerator(monkeypatch, "cuda")
    pytester.makeini("[pytest]\nvlm_device = cpu\n")
    project(
        pytester,
        """\
        def test_device(vlm_latency, _vlm_engine):
            vlm_latency(model.generate)
            assert _vlm_engine.options[-1].device == "cuda"
        """,
    )

    pytester.runpytest_inprocess("--gpu").assert_outcomes(passed=1)


def test_gpu_and_another_device_contradict_each_other(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--gpu", "--vlm-device=cpu")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: --gpu and --vlm-device cpu contradict each other; give one"
    )


def test_a_projects_own_gpu_option_keeps_its_meaning(pytester: pytest.Pytester) -> None:
    project(pytester, READS_OWN_GPU, conftest=OWN_GPU)

    pytester.runpytest_inprocess("--gpu=seven").assert_outcomes(passed=1)


def test_a_projects_own_gpu_flag_keeps_its_meaning(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        def test_own(request, vlm_latency, _vlm_engine):
            vlm_latency(model.generate)
            assert request.config.getoption("--gpu") is True
            assert _vlm_engine.options[-1].device is None
        """,
        conftest=OWN_GPU.replace('"store", default="none"', '"store_true"'),
    )

    pytester.runpytest_inprocess("--gpu").assert_outcomes(passed=1)


def test_a_projects_own_gpu_option_keeps_its_meaning_in_workers(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    project(pytester, READS_OWN_GPU, conftest=OWN_GPU)

    in_subprocess(pytester, monkeypatch, "-n1", "--gpu=seven").assert_outcomes(passed=1)


def test_a_gpu_option_of_a_conftest_that_is_loaded_later_does_not_collide(
    pytester: pytest.Pytester,
) -> None:
    project(pytester)
    below = pytester.mkdir("below")
    (below / "conftest.py").write_text(
        "def pytest_addoption(parser):\n    parser.addoption('--gpu', action='store_true')\n"
    )
    (below / "test_below.py").write_text("def test_below():\n    pass\n")

    pytester.runpytest_inprocess().assert_outcomes(passed=2)


def test_the_help_leaves_a_projects_own_gpu_option_alone(pytester: pytest.Pytester) -> None:
    project(pytester, conftest=OWN_GPU)

    text = pytester.runpytest_inprocess("--help").stdout.str()

    assert text.count("--gpu") == 1


def test_workers_that_find_no_accelerator_end_the_run_as_one_process_does(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    project(pytester)

    result = in_subprocess(pytester, monkeypatch, "-n1", "--gpu")

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.parseoutcomes() == {}
    result.stderr.fnmatch_lines([NO_ACCELERATOR])
    is_warned = "PytestBenchmarkWarning" in result.stderr.str()
    assert is_warned is WARNS_OF_ANY_WORKERS
