from __future__ import annotations

import pytest

import pytest_vlmlatency.models.load  # noqa: F401 - it cannot be imported again and again
from tests.projects import MEASURED, project


def test_the_fixture_returns_what_generate_returned_and_keeps_the_case(
    pytester: pytest.Pytester,
) -> None:
    project(
        pytester,
        """\
        def test_caption(vlm_latency):
            assert vlm_latency(model.generate, answer=42) == 42
            assert vlm_latency.case.check(decode_ms=400) is vlm_latency.case
            assert vlm_latency.cases == (vlm_latency.case,)
        """,
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_generate_argument_of_any_name_is_forwarded(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        def test_caption(vlm_latency):
            assert vlm_latency(model.generate, generate=1, self=2, answer=3) == 3
        """,
    )
    model = (pytester.path / "test_x.py").read_text()
    own_names = model.replace("def generate(self, **kwargs)", "def generate(self_, /, **kwargs)")
    (pytester.path / "test_x.py").write_text(own_names)

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("call", "problem"),
    [
        (
            "vlm_latency(model.generate, answer=1, rounds=3)",
            "rounds would be passed on to the function, which does not name it; to set how to "
            "measure, call vlm_latency.pedantic(model.generate, kwargs=inputs, rounds=...); to "
            "pass it on, put it into those kwargs",
        ),
        (
            "vlm_latency(lambda answer: answer, answer=1, model=model, warmup_rounds=0)",
            "model, warmup_rounds would be passed on to the function, which does not name them*"
            "kwargs=inputs, model=..., warmup_rounds=...)*",
        ),
        (
            "vlm_latency.pedantic(model.generate, answer=1)",
            "*does not know 'answer'*Arguments of generate() go into kwargs={...}.",
        ),
        ("vlm_latency(model, answer=1)", "the model itself was passed, a Model; expected its *"),
        ("vlm_latency(model.generate(answer=1))", "expected something to call*but got 1: pass *"),
    ],
)
def test_a_setting_or_model_in_the_wrong_place_is_answered_in_one_line(
    pytester: pytest.Pytester, call: str, problem: str
) -> None:
    project(pytester, f"def test_caption(vlm_latency):\n    {call}\n")

    result = pytester.runpytest_inprocess("--tb=short")

    result.assert_outcomes(failed=1)
    errors = [line for line in result.stdout.lines if line.startswith("E  ")]
    assert len(errors) == 1
    result.stdout.fnmatch_lines([f"E   pytest_vlmlatency.errors.UsageProblem: {problem}"])


@pytest.mark.parametrize(
    "call",
    [
        "vlm_latency.pedantic(model.generate, kwargs={'answer': 3, 'rounds': 5})",
        "vlm_latency(Own().generate, rounds=3)",
    ],
)
def test_an_argument_that_is_called_like_a_setting_may_be_passed_on(
    pytester: pytest.Pytester, call: str
) -> None:
    project(
        pytester,
        f"""\
        class Own(Model):
            def generate(self, rounds):
                return rounds

        def test_caption(vlm_latency):
            assert {call} == 3
        """,
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


def test_a_case_is_named_by_path_parameters_and_configuration(pytester: pytest.Pytester) -> None:
    pytester.mkdir(".git")
    below = pytester.mkdir("below")
    project(
        pytester,
        """\
        @pytest.mark.parametrize("size", ["low"])
        def test_caption(vlm_latency, size):
            vlm_latency.pedantic(model.generate, config=Knob("c1"))
            case = vlm_latency.case
            assert case.id == "below/test_x.py::test_caption[low]{knob=c1}"
            assert case.test == "below/test_x.py::test_caption[low]"
            assert case.name == "test_caption[low]{knob=c1}"
            assert case.params == {"size": "low"}
            assert case.worker is None
        """,
    )
    (pytester.path / "test_x.py").rename(below / "test_x.py")
    (below / "pytest.ini").write_text("[pytest]\n")

    pytester.runpytest_inprocess("below", "--confcutdir=.").assert_outcomes(passed=1)


def test_a_parameter_that_is_an_object_is_named_by_its_type(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        class Image: pass

        @pytest.mark.parametrize("image, size", [(Image(), (3, 4))])
        def test_caption(vlm_latency, image, size):
            vlm_latency(model.generate)
            assert vlm_latency.case.params == {"image": "Image", "size": "(3, 4)"}
        """,
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("marks", "params"),
    [
        ('@P("client", [Client("t0ken")], ids=["prod"])', {"client": "prod"}),
        ('@P("client", [pytest.param(Client("t0ken"), id="prod")])', {"client": "prod"}),
        ('@P("client", [Client("t0ken")])', {"client": "Client"}),
        ('@P("client", [("t0ken", 1)])', {"client": "tuple"}),
        ('@P("client", [{"key": "t0ken"}])', {"client": "dict"}),
        ('@P("client", ["t0ken"], ids=["prod"])', {"client": "prod"}),
        ('@P("client", [(3, 4)], ids=["small"])', {"client": "small"}),
        ('@P("client, n", [("t0ken", 3)], ids=["prod"])', {"client": "prod", "n": "prod"}),
        (
            '@P("n", [3]) @P("client", [Client("t0ken")], ids=["prod"])',
            {"n": "3", "client": "prod"},
        ),
        ('@P("n, client", [(3, Client("t0ken"))])', {"n": "3", "client": "Client"}),
        ('@P("n", [3, 4][:1]) @P("client", ["a-b"])', {"n": "3", "client": "a-b"}),
    ],
)
def test_a_parameter_is_named_as_pytest_shows_it_and_never_by_its_repr(
    pytester: pytest.Pytester, marks: str, params: dict[str, str]
) -> None:
    project(
        pytester,
        f"""\
        import dataclasses
        import pytest

        P = pytest.mark.parametrize

        @dataclasses.dataclass(frozen=True)
        class Client:
            token: str

        {marks.replace(") @", ")" + chr(10) + "        @")}
        def test_caption(vlm_latency, {", ".join(params)}):
            vlm_latency(model.generate)
            assert vlm_latency.case.params == {params}
            assert "t0ken" not in vlm_latency.case.id
        """,
    )

    pytester.runpytest_inprocess("--vlm-json=run.json").assert_outcomes(passed=1)
    assert "t0ken" not in (pytester.path / "run.json").read_text()


def test_interleaved_measures_a_case_for_each_configuration(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        def test_knobs(vlm_latency):
            cases = vlm_latency.interleaved(model.generate, [Knob("a"), Knob("b")], rounds=4)
            assert [case.config for case in cases] == [{"knob": "a"}, {"knob": "b"}]
            assert vlm_latency.cases == cases
        """,
    )

    pytester.runpytest_inprocess().assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (
            "vlm_latency(model.generate); vlm_latency(model.generate)",
            "vlm_latency was used before in this test; it measures once a test: write a test for "
            "each measurement, or one interleaved() call for several configurations",
        ),
        (
            "vlm_latency.case",
            "vlm_latency.case is what was measured, and nothing was so far; measure first: "
            "output = vlm_latency(model.generate, **inputs, max_new_tokens=32)",
        ),
        (
            "vlm_latency.interleaved(model.generate, [Knob('a'), Knob('b')]); vlm_latency.case",
            "interleaved() measured 2 cases; they are in vlm_latency.cases",
        ),
        (
            "vlm_latency.interleaved(model.generate, [])",
            "interleaved() was given no configuration; expected at least one",
        ),
        (
            "vlm_latency.interleaved(model.generate, [Knob('a')], config=Knob('b'))",
            "interleaved() takes its configurations as `configs`, not `config`",
        ),
        (
            "vlm_latency.pedantic(model.generate, rounds=0)",
            "rounds is 0; expected a whole number of at least 1",
        ),
    ],
)
def test_a_wrong_use_fails_the_test_at_its_own_line(
    pytester: pytest.Pytester, body: str, problem: str
) -> None:
    project(pytester, f"def test_caption(vlm_latency):\n    {body}\n")

    result = pytester.runpytest_inprocess("--tb=short")

    result.assert_outcomes(failed=1)
    errors = [line for line in result.stdout.lines if line.startswith("E  ")]
    assert errors == [f"E   pytest_vlmlatency.errors.UsageProblem: {problem}"]
    assert "pytest_vlmlatency/fixture.py" not in result.stdout.str()


def test_a_full_trace_shows_how_we_came_to_an_error(pytester: pytest.Pytester) -> None:
    project(pytester, "def test_caption(vlm_latency):\n    vlm_latency.case\n")

    result = pytester.runpytest_inprocess("--full-trace")

    result.assert_outcomes(failed=1)
    assert "pytest_vlmlatency/fixture.py" in result.stdout.str()


def test_a_test_that_never_measures_fails_and_is_shown_the_call(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, "def test_caption(vlm_latency):\n    pass\n")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(
        [
            "the test asks for vlm_latency but never called it; measure with",
            "    output = vlm_latency(model.generate, ****inputs, max_new_tokens=32)",
            "or leave the fixture out",
        ],
        consecutive=True,
    )


@pytest.mark.parametrize(
    ("body", "outcome"),
    [("pytest.skip('no photographs')", "skipped"), ("pytest.xfail('known')", "xfailed")],
)
def test_a_test_that_stopped_for_a_reason_of_its_own_keeps_it(
    pytester: pytest.Pytester, body: str, outcome: str
) -> None:
    project(pytester, f"def test_caption(vlm_latency):\n    {body}\n")

    pytester.runpytest_inprocess().assert_outcomes(**{outcome: 1})


def test_a_test_that_fails_before_it_measures_shows_its_own_failure_only(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, "def test_caption(vlm_latency):\n    assert 1 == 2\n")

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    assert "never called it" not in result.stdout.str()


def test_a_median_above_its_bound_fails_the_test_and_stays_in_the_table(
    pytester: pytest.Pytester,
) -> None:
    project(
        pytester,
        """\
        def test_caption(vlm_latency):
            vlm_latency(model.generate)
            vlm_latency.case.check(decode_ms=4)
        """,
    )

    result = pytester.runpytest_inprocess()

    result.assert_outcomes(failed=1)
    assert "records.py" not in result.stdout.str()
    result.stdout.fnmatch_lines(
        [
            "E *OverBound: test_caption: median decode_ms is 30.00 ms over 2 rounds, "
            "above the bound of 4 ms",
            "test_caption  10.00*",
        ]
    )


def test_disabled_calls_generate_once_and_measures_nothing(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        calls = []
        model.generate = lambda: calls.append(1)

        def test_caption(vlm_latency):
            vlm_latency.pedantic(model.generate, model=model)
            assert len(calls) == 1
            assert vlm_latency.case.is_measured is False
            vlm_latency.case.check(decode_ms=0.001)
        """,
    )

    result = pytester.runpytest_inprocess("--benchmark-disable")

    result.assert_outcomes(passed=1)
    assert "vlm latency" not in result.stdout.str()


def test_disabled_calls_generate_once_for_each_configuration(pytester: pytest.Pytester) -> None:
    project(
        pytester,
        """\
        def test_caption(vlm_latency):
            cases = vlm_latency.interleaved(model.generate, [Knob("a"), Knob("b")])
            assert [(case.is_measured, case.config["knob"]) for case in cases] == [
                (False, "a"),
                (False, "b"),
            ]
        """,
    )

    pytester.runpytest_inprocess("--benchmark-disable").assert_outcomes(passed=1)


def test_enable_overrides_disable(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("--benchmark-disable", "--benchmark-enable")

    result.stdout.fnmatch_lines(["*vlm latency: 1 case on cpu*"])


BOTH_KINDS = MEASURED + "\ndef test_other():\n    pass\n"


def test_benchmark_only_runs_the_tests_that_measure(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PYTEST_XDIST_WORKER", raising=False)  # pytest-benchmark refuses it there
    project(pytester, BOTH_KINDS)

    pytester.runpytest_inprocess("--benchmark-only").assert_outcomes(passed=1, skipped=1)


def test_benchmark_skip_leaves_out_the_tests_that_measure(pytester: pytest.Pytester) -> None:
    project(pytester, BOTH_KINDS)

    result = pytester.runpytest_inprocess("--benchmark-skip", "-v")

    result.assert_outcomes(passed=1, skipped=1)
    result.stdout.fnmatch_lines(["*test_caption SKIPPED*"])


def test_pytest_benchmark_does_not_miss_its_own_fixture(pytester: pytest.Pytester) -> None:
    project(pytester)

    result = pytester.runpytest_inprocess("-Werror")

    result.assert_outcomes(passed=1)


def test_vlm_model_without_a_named_model_skips_and_says_how_to_name_one(
    pytester: pytest.Pytester,
) -> None:
    project(pytester, "def test_caption(vlm_model, vlm_latency):\n    pass\n")

    result = pytester.runpytest_inprocess("-rs")

    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(
        ["*no model was named: give --vlm-model a hub id, a folder or dummy:NAME, or set *"]
    )


def test_vlm_model_that_cannot_be_loaded_is_a_short_error(pytester: pytest.Pytester) -> None:
    project(pytester, "def test_caption(vlm_model, vlm_latency):\n    pass\n")

    result = pytester.runpytest_inprocess("--vlm-model=dummy:nothing-like-this")

    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["--vlm-model: *nothing-like-this*"])
    assert "load.py" not in result.stdout.str()
