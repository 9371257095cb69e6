"""README.md and docs/: code runs; commands, options, keys and links that they name exist."""

import re

import pytest

from benchmarks.evidence import _inspection, _reference, _sample
from benchmarks.evidence._docs import blocks
from benchmarks.evidence._record import ROOT
from pytest_vlmlatency import cli
from pytest_vlmlatency.estimator import command as estimator
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import load_model
from pytest_vlmlatency.models.shapes import DUMMY_SHAPES
from pytest_vlmlatency.options import COMMAND_LINE, MARKER_KEYS
from pytest_vlmlatency.session.command_line import MARKER_LINE
from tests.zoo.earlier import ENCODES_FIRST

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "docs").glob("*.md")}
ALL = "\n".join([README, *PAGES.values()])
PYTHON = re.findall(r"^```python\n(.*?)^```$", README + PAGES["index.md"], re.DOTALL | re.MULTILINE)
TESTS = {code: None for code in PYTHON if "\ndef test_" in code}
SCRIPTS = [code for code in PYTHON if "\ndef test_" not in code]
OPTION = re.compile(r"(?<![\w-])--[a-z][a-z-]+")
KEY_ROW = re.compile(r"^\| `(\w+)` \| (?:`(--[a-z-]+)`)? ?\|", re.MULTILINE)
DOCUMENTS = ("README.md", "CONTRIBUTING.md")
LINKING = (*DOCUMENTS, "ARCHITECTURE.md", *(f"docs/{name}" for name in PAGES))
OTHERS = {"--find-renames", "--samples"}
"""Options of git and of `python -m benchmarks.end_to_end`."""
MOST_WORDS = 900
"""Of the README: what it is and where to read on, at a glance."""

# What the text calls fixtures of the reader's own. Knobs want a model that has some.
FIXTURES = """\
import pytest

from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.knobs import small_grid
from pytest_vlmlatency.models.load import load_model


@pytest.fixture
def loaded(request):
    has_knobs = "configurations" in request.fixturenames
    return load_model("dummy:molmoe-nano" if has_knobs else "dummy:llava-tiny")


@pytest.fixture
def model(loaded):
    return loaded.model


@pytest.fixture
def processor(loaded):
    return loaded.processor


@pytest.fixture
def photo():
    return photograph("coffee", longest_side=128)


@pytest.fixture
def inputs(loaded, photo):
    return loaded.prepare(photo, "What is this?")


@pytest.fixture
def prepare(loaded, photo):
    def at_the_tier():
        return (), {**loaded.prepare(photo, "What is this?"), "max_new_tokens": 4}

    return at_the_tier


@pytest.fixture
def configurations():
    return small_grid()
"""


def name_of(code: str) -> str:
    """Return the first test of a block of code."""
    return str(re.findall(r"def (test_\w+)", code)[0])


def help_of(pytester: pytest.Pytester) -> str:
    """Return what `pytest --help` prints."""
    lines: list[str] = pytester.runpytest_inprocess("--help").outlines
    return "\n".join(lines)


@pytest.mark.parametrize("code", TESTS, ids=name_of)
def test_the_tests_in_the_readme_run(pytester: pytest.Pytester, code: str) -> None:
    """The reader's own bounds are a thousand times wider here: no test of ours is a race."""
    pytester.makeconftest(FIXTURES)
    pytester.makepyfile(test_x=re.sub(r"(\w_ms=\d+)", r"\g<1>000", code))

    result = pytester.runpytest_inprocess("--vlm-rounds=2", "--vlm-model=dummy:smolvlm-tiny")

    result.assert_outcomes(passed=code.count("def test_"))
    result.stdout.fnmatch_lines([f"{name_of(code)}*"])


@pytest.mark.parametrize("code", SCRIPTS)
def test_the_scripts_in_the_readme_run(code: str, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = load_model("dummy:llava-tiny")
    inputs = loaded.prepare(photograph("coffee", longest_side=128), "What is this?")

    exec(compile(code, "README.md", "exec"), {"model": loaded.model, "inputs": inputs})

    times_ms = [float(text) for text in capsys.readouterr().out.split()]
    assert sum(times_ms[:4]) == pytest.approx(times_ms[4])


def test_every_option_in_a_document_exists(
    pytester: pytest.Pytester, capsys: pytest.CaptureFixture[str]
) -> None:
    for command in cli.COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            cli.main([command.NAME, "--help"])
    for command in estimator.COMMANDS:
        with pytest.raises(SystemExit, match="0"):
            cli.main([estimator.NAME, command.NAME, "--help"])
    registered = set(OPTION.findall(capsys.readouterr().out))
    registered |= set(OPTION.findall(help_of(pytester)))

    assert set(OPTION.findall(ALL)) - registered == OTHERS


def test_the_reference_is_generated_from_the_code() -> None:
    assert PAGES["reference.md"] == _reference.page()


def test_every_option_of_the_plugin_is_in_the_reference(pytester: pytest.Pytester) -> None:
    ours = {name for name in OPTION.findall(help_of(pytester)) if name.startswith("--vlm-")}

    assert ours - set(OPTION.findall(PAGES["reference.md"])) == set()


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


def test_the_table_of_keys_is_complete_and_names_their_options() -> None:
    rows = dict(KEY_ROW.findall(PAGES["settings.md"]))

    assert {key: option for key, option in rows.items() if option} == COMMAND_LINE
    assert sorted(rows) == sorted(MARKER_KEYS)


def test_the_marker_is_registered_with_the_keys_that_it_takes() -> None:
    listed, _, _ = MARKER_LINE.removeprefix("vlm_latency(").partition(")")

    assert tuple(listed.split(", ")) == MARKER_KEYS


def test_every_dummy_in_a_document_exists() -> None:
    named = set(re.findall(r"dummy:([a-z][\w.-]*)", README + PAGES["index.md"]))

    assert named
    assert named - set(DUMMY_SHAPES) == set()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_in_a_document_exists(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^(\w+):", makefile, re.MULTILINE))

    called = re.findall(r"(?:^|`)(?:\w+=\S+ )?make ([\w ]+?)(?=`|  |$)", text, re.MULTILINE)

    assert called
    assert set(" ".join(called).split()) - targets == set()


@pytest.mark.parametrize("document", LINKING)
def test_every_link_in_a_document_leads_somewhere(document: str) -> None:
    path = ROOT / document
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", path.read_text(encoding="utf-8"))

    assert [link for link in links if not (path.parent / link).exists()] == []


def test_every_page_is_in_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")

    assert [name for name in PAGES if f": {name}\n" not in site] == []


@pytest.mark.parametrize("sample", _sample.SAMPLES, ids=lambda sample: sample.block)
def test_a_sample_names_its_command_and_has_its_columns(sample: _sample.Sample) -> None:
    """Its figures are a machine's, and are not looked at."""
    document = sample.document.read_text(encoding="utf-8")
    origin, _, table = blocks(document)[sample.block].partition("\n\n```text\n")
    header = table.splitlines()[1].split()

    assert origin.startswith(f"`{sample.command}`, ")
    assert header[:4] == ["name", "vision", "prefill", "decode"]
    assert "Wall time in ms" in table


@pytest.mark.skipif(
    not ENCODES_FIRST, reason="the page is of a transformers that encodes images before its loop"
)
def test_the_page_of_inspect_is_what_the_command_prints(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(_inspection.WIDTH))

    cli.main(_inspection.ARGUMENTS)

    assert blocks(PAGES["inspecting.md"])["inspection"] == _inspection.block_of(
        capsys.readouterr().out
    )


def test_a_sample_is_cut_out_of_what_pytest_printed() -> None:
    printed = "..\n---- vlm latency: 1 case on cpu ----\nname\n====== 1 passed ======\nend\n"

    assert _sample.section_of(printed) == "---- vlm latency: 1 case on cpu ----\nname"


def test_a_sample_without_a_table_is_refused() -> None:
    with pytest.raises(ValueError, match="pytest printed no table"):
        _sample.section_of("no tests ran")
