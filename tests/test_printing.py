"""What others wrote gives no order to a terminal or to a CI service, wherever it is printed."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ET
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pytest_vlmlatency
from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import EstimatorProblem, HistoryProblem
from pytest_vlmlatency.gate.pins import Pin, add_pin, pin_file
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.printing import printable, printable_lines, without_secrets
from pytest_vlmlatency.records import Commit, fingerprint_of
from pytest_vlmlatency.report.gate_ci import SourceLine, annotation_lines, junit_cases
from pytest_vlmlatency.report.gate_markdown import gate_markdown
from pytest_vlmlatency.report.gate_terminal import coloured, gate_lines
from pytest_vlmlatency.report.gate_words import title_of
from pytest_vlmlatency.report.terminal import summary_lines
from tests.cases import a_call, a_case
from tests.gate.runs import a_noisy_case, a_run
from tests.gate_reports import WHOLE, a_report, a_verdict
from tests.gated_projects import add_history, gated_project, slow_down
from tests.repositories import commit, git, repository

if TYPE_CHECKING:
    from pytest_vlmlatency.records import Run

HOSTILE = (
    "::error::at the beginning\x1b[31m\n::error::of a line\n  ::error::set in\r::error::of another"
    "\x85::error::of a third\u2028##[error]anywhere ##vso[task.complete]it\u202e\x00\x9b2J|`<img>"
    "@someone [link](https://evil.org) %0A::error::escaped"
)
TYPED = HOSTILE.replace("\x00", "")  # no argument of a command can hold it
SLOWER = 10
LEFT_ALONE = {"started_at", "until", "schema_version", "id"}


def is_an_order(line: str) -> bool:
    """Whether a terminal, GitHub or Azure Pipelines would take a line for more than text."""
    return (
        not line.isprintable()
        or line.lstrip().startswith("::")
        or bool(re.search(r"##\w*\[", line))
    )


def orders_in(text: str) -> list[str]:
    return [line for line in text.split("\n") if is_an_order(line)]


def poisoned(value: object, name: str = "") -> object:
    """Return a record whose free texts end with the hostile one, and begin with it where alone."""
    if isinstance(value, Enum) or name in LEFT_ALONE:
        return value
    if isinstance(value, str):
        return f"{HOSTILE}{value}"
    if isinstance(value, tuple):
        return tuple(poisoned(one, name) for one in value)
    if isinstance(value, dict):
        return {key: poisoned(one, name) for key, one in value.items()}
    if is_dataclass(value) and not isinstance(value, type):
        found = {one.name: poisoned(getattr(value, one.name), one.name) for one in fields(value)}
        return replace(value, **found)
    return value


@given(st.text())
def test_what_is_printable_is_one_line_without_orders_and_stays_as_it_is(text: str) -> None:
    shown = printable(text)

    assert not is_an_order(shown)
    assert printable(shown) == shown


@given(st.text(st.characters(categories=["L", "N", "P", "S"]) | st.just(" ")))
def test_text_of_letters_and_signs_is_shown_as_it_is(text: str) -> None:
    assert printable(f"a{text}".replace("##", "")) == f"a{text}".replace("##", "")


@given(st.text())
def test_nothing_but_the_first_line_of_a_text_begins_a_line(text: str) -> None:
    _first, *others = printable_lines(f"a\n{text}")

    assert all(not line or line.startswith(" ") for line in others)
    assert not any(map(is_an_order, others))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://key:sec/r@t@bucket/x?versionId=1.", "s3://bucket/x."),
        ("'https://token@host/a@b#part', then", "'https://host/a@b', then"),
        ("http://user:pa?s#s@host:9000/p?a=1; or", "http://host:9000/p; or"),
        ("simplecache::s3://u:p@bucket/x", "simplecache::s3://bucket/x"),
        ("zip://a.zip::https://u:p@host/a?x=1", "zip://a.zip::https://host/a"),
        ("http://[::1]:9000/x?token=1", "http://[::1]:9000/x"),
        ("abfs://container@account.dfs.core.windows.net/x", ...),
        ("s3://bucket/a@b http://host:9000/a@b C:/a user@host", ...),
    ],
)
def test_a_url_is_shown_without_user_password_and_query(text: str, shown: object) -> None:
    assert without_secrets(text) == (text if shown is ... else shown)


def test_an_error_quotes_foreign_text_as_it_can_be_printed() -> None:
    problem = EstimatorProblem(f"x.json: {HOSTILE}, see https://u:secret@host/x?token=secret")

    assert not orders_in(str(problem))
    assert "secret" not in str(problem)


def test_nothing_writes_to_a_terminal_but_the_module_that_makes_text_printable() -> None:
    package = Path(pytest_vlmlatency.__file__).parent
    writes = re.compile(r"std(out|err)\.write|write_line\(|\bprint\(|= print\b")
    found = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if writes.search(path.read_text(encoding="utf-8"))
    }

    assert found == {"printing.py", "session/gate_outputs.py"}  # there GitHub's annotations


class Poisoned:
    """A repository with a history whose runs say hostile things wherever they can."""

    def __init__(self, root: Path) -> None:
        self.first = repository(root, {"a.txt": "first"})
        self.second = commit(root, {"a.txt": "second"})
        self.store = open_store(root / ".vlm_latency")
        self.runs = [self.keep(number, self.first) for number in range(1, 12)]
        self.runs.append(self.keep(12, self.second, vision_ms=0.3))
        self.machine = fingerprint_of(self.runs[0].environment)
        pin = Pin(
            run=self.runs[0].id,
            commit=self.first,
            started_at=HOSTILE,
            accepted_on=HOSTILE,
            why=HOSTILE,
        )
        add_pin(root, self.machine, pin, machine=[])
        (root / ".vlm_latency/runs" / "\x1b[31m\n::error::a file.json").write_text(HOSTILE)

    def keep(self, number: int, of: str, **slower: float) -> Run:
        case = a_noisy_case(number, slower=slower or None)
        assert case.workload is not None
        case = replace(
            case,
            id=f"{HOSTILE}::{HOSTILE}",
            name=HOSTILE,
            test=f"{HOSTILE}::test_x",
            notes=(HOSTILE,),
            labels=(HOSTILE,),
            workload=replace(case.workload, model=HOSTILE, output_digest=f"{number}{HOSTILE}"),
        )
        run = a_run(number, [case])
        run = replace(
            run,
            commit=Commit(id=of, branch=HOSTILE, is_dirty=False),
            environment=replace(
                run.environment,
                versions={"torch": f"{HOSTILE}{of}"},
                machine={**run.environment.machine, "cpu": HOSTILE},
            ),
        )
        self.store.write(run)
        return run


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with the poisoned repository."""
    root = tmp_path_factory.mktemp("poisoned")
    project = Poisoned(root)
    write_run(project.runs[0], root / "before.json")
    write_run(project.runs[-1], root / "after.json")
    (root / "machine").write_text(project.machine)
    (root / "broken.json").write_text(json.dumps({"kind": HOSTILE, "schema_version": HOSTILE}))
    (root / "records").mkdir()
    (root / "records" / "a.jsonl").write_text(json.dumps({HOSTILE: HOSTILE}) + "\n")
    return root


COMMANDS = (
    "history",
    "history --case error",
    "history --json",
    ("history", "--sql", "SELECT case_id, case_name, branch, header FROM runs, cases"),
    "compare before.json after.json --all",
    "compare before.json after.json --markdown report.md",
    "compare main~1 last --all",
    "compare accepted last --all",
    ("compare", "before.json", TYPED),
    ("compare", "before.json", "after.json", TYPED),
    ("accept", "main~1", "--why", TYPED, "--case", TYPED),
    ("accept", "main~1", "--why", TYPED),
    ("ab", f"origin/{TYPED}", "HEAD"),
    "trend --all --machine MACHINE",
    "trend --json --machine MACHINE",
    "export before.json after.json --to out",
    "export-benchmark before.json --to bench",
    ("import", "before.json", "broken.json", f"{TYPED}.json"),
    "merge before.json after.json --to merged.json",
    "compact",
    "estimator evaluate --model broken.json --results_dir records",
    "estimator train --results_dir records",
    ("inspect", TYPED),
    ("history", "--history", f"nowhere://{TYPED}"),
    ("history", "--history", TYPED),
)


@pytest.mark.parametrize("typed", COMMANDS, ids=range(len(COMMANDS)))
def test_no_command_prints_an_order_of_what_it_read(
    root: Path,
    typed: str | tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(root)
    words = typed.split() if isinstance(typed, str) else typed
    machine = (root / "machine").read_text()

    try:
        cli.main([machine if word == "MACHINE" else word for word in words])
    except SystemExit as end:  # a usage error of argparse
        assert end.code == 2  # noqa: PT017

    said = capsys.readouterr()
    assert said.out or said.err
    assert orders_in(said.out) == []
    assert orders_in(said.err) == []


def test_no_form_of_a_gates_report_holds_an_order() -> None:
    report = poisoned(WHOLE)
    assert isinstance(report, type(WHOLE))
    sources = {case.test or "": SourceLine(HOSTILE, 3) for case in report.cases}

    lines = gate_lines(report, width=None, is_verbose=True)
    annotations = annotation_lines(report, sources)

    assert orders_in(coloured(lines, has_colours=False)) == []
    assert not is_an_order(printable(title_of(report)))
    assert all(one.isprintable() and re.match("::(error|warning) ", one) for one in annotations)
    assert orders_in(gate_markdown(report).replace("&#8203;", "")) == []
    prose = re.sub("``.*?``", "", gate_markdown(report))
    assert "someone" in prose
    assert not re.search(r"@someone|<img>|\[link\]|https://|(?<!\\)`", prose)
    for one in junit_cases(report):
        assert not is_an_order(one.nodeid)
        assert not orders_in(one.text)
        ET.fromstring(f"<a>{one.nodeid}{one.text}</a>".replace("<img>", "").replace("&", ""))


def test_a_gated_run_of_pytest_prints_no_order_but_its_own_annotations(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    root = pytester.path
    gated_project(root, monkeypatch, tmp_path / "seeds")
    monkeypatch.chdir(root)
    pytester.runpytest_inprocess()
    for run in add_history(root, 10)[1:]:
        (root / f".vlm_latency/runs/{HOSTILE[-9:]}\n::error::{run.id}").write_text("")
    cli.main(["accept", "--why", TYPED])
    git(root, "checkout", "--quiet", "-b", "main\u202e")
    slow_down(root, vision_ms=0.5)
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    monkeypatch.delenv("GITHUB_STEP_SUMMARY", raising=False)

    options = ("--vlm-gate", "--vlm-no-confirm", "-v", "--junitxml=j.xml", "--vlm-markdown=r.md")
    result = pytester.runpytest_inprocess(*options)

    said = result.stdout.str()
    own = [line for line in said.split("\n") if re.match("::(error|warning) (file|title)=", line)]
    assert result.ret == SLOWER
    assert "accepted on" in said
    assert own
    assert set(orders_in(said)) == set(own)
    ET.parse(root / "j.xml")


def test_a_run_does_not_show_what_the_url_of_its_history_says_of_the_user(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    gated_project(pytester.path, monkeypatch, tmp_path / "seeds")
    url = "https://key:hunter2@127.0.0.1:9/path?token=swordfish"

    result = pytester.runpytest_inprocess(f"--vlm-history={url}", "--vlm-gate", "--vlm-no-confirm")

    said = result.stdout.str() + result.stderr.str()
    assert "127.0.0.1" in said
    assert not re.search("hunter2|swordfish|key:", said)


def test_the_table_of_a_run_holds_no_order() -> None:
    case = replace(a_case([a_call()]), name=HOSTILE, notes=(HOSTILE,), labels=(HOSTILE,))
    other = replace(case, id="another", device=HOSTILE)

    text = "\n".join(summary_lines([case, other], width=None))

    assert not any(is_an_order(line) for part in text.split("\n") for line in printable_lines(part))


def test_a_pin_that_cannot_be_read_is_named_without_what_it_could_do(tmp_path: Path) -> None:
    path = pin_file(tmp_path, "0" * 12)
    path.parent.mkdir()
    path.write_text(json.dumps({"schema": HOSTILE}))
    shown = str(HistoryProblem(f"{path}: {HOSTILE}"))

    assert orders_in(shown) == []
    assert gate_markdown(a_report([a_verdict(HOSTILE)])).count("\n::") == 0


def test_a_long_word_is_searched_for_urls_in_proportion_to_its_length() -> None:
    word = "x" * 10**5  # with the square of it, minutes

    assert without_secrets(f"{word}://user:password@host") == f"{word}://host"
    assert without_secrets(f"::{word}" * 2) == f"::{word}" * 2
