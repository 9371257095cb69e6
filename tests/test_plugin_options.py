from __future__ import annotations

import pytest
from _pytest.config import findpaths

from pytest_vlmlatency.options import DTYPES
from tests.projects import project

RECORDING = """\
    @pytest.mark.vlm_latency(rounds=3, threads=3)
    def test_layers(vlm_latency, _vlm_engine):
        vlm_latency.pedantic(model.generate, rounds=2)
        options = _vlm_engine.options[-1]
        given = (options.rounds, options.threads, options.warmup_rounds, options.max_time_s)
        assert given == (2, 3, 4, 5.0)
        assert options.per_token is False
    """


def test_call_beats_marker_beats_command_line_beats_ini_beats_default(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, RECORDING)
    pytester.makeini("""
        [pytest]
        vlm_rounds = 9
        vlm_threads = 9
        vlm_warmup_rounds = 9
        vlm_max_time = 5
    """)

    result = pytester.runpytest_inprocess(
        "--vlm-rounds=8", "--vlm-threads=8", "--vlm-warmup-rounds=4"
    )

    result.assert_outcomes(passed=1)


def test_the_nearest_marker_beats_the_one_on_the_class(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        @pytest.mark.vlm_latency(rounds=3, threads=2)
        class TestBoth:
            @pytest.mark.vlm_latency(rounds=5)
            def test_layers(self, vlm_latency, _vlm_engine):
                vlm_latency(model.generate)
                options = _vlm_engine.options[-1]
                assert (options.rounds, options.threads) == (5, 2)
        """,
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    "table",
    [
        "tool.pytest.ini_options",
        pytest.param(
            "tool.pytest",
            marks=pytest.mark.skipif(
                not hasattr(findpaths, "ConfigValue"), reason="this pytest reads no [tool.pytest]"
            ),
        ),
    ],
)
def test_switches_are_read_from_the_ini_file_of_a_toml_project(
    pytester: pytest.Pytester, table: str
) -> None:
    project(
        pytester,
        """\
        def test_layers(vlm_latency, _vlm_engine):
            vlm_latency(model.generate)
            options = _vlm_engine.options[-1]
            assert (options.per_token, options.rounds) == (True, 7)
        """,
    )
    pytester.makepyprojecttoml(f"""
        [{table}]
        vlm_per_token = true
        vlm_rounds = 7
    """)

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("argument", "problem"),
    [
        ("--vlm-rounds=0", "--vlm-rounds: expected a whole number of at least 1, not '0'"),
        ("--vlm-rounds=two", "--vlm-rounds: expected a whole number of at least 1, not 'two'"),
        (
            "--vlm-warmup-rounds=-1",
            "--vlm-warmup-rounds: expected a whole number of at least 0, not '-1'",
        ),
        ("--vlm-max-time=0", "--vlm-max-time: expected a number of seconds above 0, not '0'"),
        ("--vlm-max-time=nan", "--vlm-max-time: expected a number of seconds above 0, not 'nan'"),
        ("--vlm-max-time=x", "--vlm-max-time: expected a number of seconds above 0, not 'x'"),
        ("--vlm-threads=x", "--vlm-threads: expected a whole number of at least 0, not 'x'"),
        (
            "--vlm-device=cuda:",
            "--vlm-device: expected a device such as cpu, cuda, cuda:1, xpu or mps, not 'cuda:'",
        ),
        (
            "--vlm-dtype=int8",
            "--vlm-dtype: expected one of auto, float32, float16, bfloat16, not 'int8'",
        ),
        ("--vlm-json=new/", "--vlm-json: expected a file to write, but 'new/' is a folder"),
        ("--vlm-json=.", "--vlm-json: expected a file to write, but '.' is a folder"),
        (
            "--vlm-json=no/such/run.json",
            "--vlm-json: expected a file in a folder that exists, but there is no folder 'no/such'",
        ),
    ],
)
def test_an_option_value_that_means_nothing_ends_the_run_by_name(
    pytester: pytest.Pytester, argument: str, problem: str
) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess(argument)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert f"error: argument {problem}" in result.stderr.str()


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("vlm_rounds = 0", "vlm_rounds: expected a whole number of at least 1, not '0'"),
        ("vlm_max_time = -2", "vlm_max_time: expected a number of seconds above 0, not '-2.0'"),
        ("vlm_dtype = int8", "vlm_dtype: expected one of auto, float32, float16, bfloat16, not"),
        ("vlm_threads = many", "invalid literal for int() with base 10: 'many'"),
    ],
)
def test_an_ini_value_that_means_nothing_ends_the_run_by_name(
    pytester: pytest.Pytester, line: str, problem: str
) -> None:
    project(pytester)
    pytester.makeini(f"[pytest]\n{line}\n")

    result = pytester.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert problem in result.stderr.str()


def test_an_unknown_marker_key_ends_the_run_before_any_test(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        def test_before():
            pass

        @pytest.mark.vlm_latency(round=3)
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
        """,
    )

    result = pytester.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.parseoutcomes() == {}
    assert result.stderr.lines == [
        "ERROR: test_x.py::test_caption: @pytest.mark.vlm_latency does not know 'round'; did you "
        "mean 'rounds'? It takes rounds, warmup_rounds, max_time_s, per_token, threads, setup, "
        "model, phases, config, target, alpha, min_effect, budget_ms, gate, why, until.",
        "",
    ]


def test_a_wrong_marker_is_refused_without_the_fixture_too(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        @pytest.mark.vlm_latency(rounds="many")
        def test_other():
            pass
        """,
    )

    result = pytester.runpytest_inprocess()

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.stderr.lines[0] == (
        "ERROR: test_x.py::test_other: @pytest.mark.vlm_latency: rounds is 'many'; "
        "expected a whole number of at least 1"
    )


@pytest.mark.parametrize(
    ("marked", "args", "told"),
    [
        ("min_effect=0.5", (), "'vision' is 0.03, the default"),
        (
            "min_effect=0.02",
            ("--vlm-target=0.02",),
            "every phase is 0.02, which the marker, the call, --vlm-target or vlm_target in the "
            "ini file says",
        ),
        (
            "min_effect=0.02, target={'decode': 0.01}",
            (),
            "'decode' is 0.01, which the marker, the call, --vlm-target or vlm_target in the ini "
            "file says",
        ),
    ],
)
@pytest.mark.parametrize("workers", [(), ("-n1",)], ids=["one", "n1"])
def test_a_min_effect_without_room_below_a_target_is_refused_before_any_test_runs(
    pytester: pytest.Pytester,
    marked: str,
    args: tuple[str, ...],
    told: str,
    workers: tuple[str, ...],
) -> None:
    project(
        pytester,
        f"""\
        @pytest.mark.vlm_latency({marked})
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
        """,
    )

    result = pytester.runpytest_inprocess(*args, *workers)

    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.parseoutcomes() == {}
    least = marked.partition(",")[0].removeprefix("min_effect=")
    assert (
        f"ERROR: test_x.py::test_caption: min_effect is {least}, which the vlm_latency marker or "
        f"the call itself says, and the target of {told}; expected a min_effect of less than 0.8 "
        f"of the target: what is too small to be slower must not be too large to be the same. "
        f"Lower min_effect, or raise the target"
    ) in result.stderr.str()


def test_a_min_effect_with_room_below_the_command_lines_target_is_taken(
    pytester: pytest.Pytester,
) -> None:
    project(
        pytester,
        """\
        @pytest.mark.vlm_latency(min_effect=0.03)
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
        """,
    )

    pytester.runpytest_inprocess("--vlm-target=0.1").assert_outcomes(passed=1)


@pytest.mark.parametrize("least", [0, 0.5])
def test_a_min_effect_of_a_call_without_room_below_its_target_fails_the_test(
    pytester: pytest.Pytester, least: float
) -> None:
    project(
        pytester,
        f"""\
        def test_caption(vlm_latency):
            vlm_latency.pedantic(model.generate, min_effect={least})
        """,
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    assert f"min_effect is {least}, which" in result.stdout.str()


def test_the_marker_is_registered(pytester: pytest.Pytester) -> None:
    result = pytester.runpytest_inprocess("--markers")

    result.stdout.fnmatch_lines(["@pytest.mark.vlm_latency(rounds, warmup_rounds, max_time_s, *"])


def test_the_help_lists_the_options_in_a_group_with_the_dtypes(pytester: pytest.Pytester) -> None:
    text = pytester.runpytest_inprocess("--help").stdout.str()

    start = text.index("latency of vision-language models, phase by phase:")
    group = " ".join(text[start:].split())
    assert all(dtype in group for dtype in DTYPES)
    assert "--gpu Measure on the accelerator that torch finds" in group


@pytest.mark.parametrize(
    "call",
    [
        "vlm_latency.pedantic(model.generate, round=3)",
        "vlm_latency.pedantic(model.generate, device='cpu')",
    ],
)
def test_an_unknown_key_of_a_call_fails_the_test(pytester: pytest.Pytester, call: str) -> None:
    project(pytester, f"def test_caption(vlm_latency):\n    {call}\n")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E *UsageProblem: vlm_latency.pedantic() does not know '*"])


def test_the_terms_of_a_gate_travel_with_the_case(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        @pytest.mark.vlm_latency(target={"decode": 0.02}, budget_ms={"ttft": 250})
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
            terms = vlm_latency.case.terms
            assert terms.target_ratios == {"decode": 0.02, "*": 0.04}
            assert terms.budgets_ms == {"ttft": {"*": 250.0}}
        """,
    )

    pytester.runpytest_inprocess("--vlm-target=0.04").assert_outcomes(passed=1)


def test_a_target_of_a_phase_that_the_case_lacks_fails_the_test(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        @pytest.mark.vlm_latency(target={"decoder": 0.02})
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
        """,
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*target names 'decoder', which this case does not have; did*"])
