"""Commands that write, each killed at each of its operations on files: `python -m tests.killing`.

    python -m tests.killing --kills 300        as many kills, spread over all operations of all
    python -m tests.killing --only compact

A fork runs the command and kills itself before an operation, after it, or in the middle of a
write. Then: what was there before is there, so is what was reported on stdout, whatever is there is
whole, and the same command run again comes to the same end, whatever the killed one left.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency import cli
from pytest_vlmlatency.errors import RecordsProblem
from pytest_vlmlatency.estimator import LatencyEstimator, load_estimator
from pytest_vlmlatency.estimator.training import TrainingPlan
from pytest_vlmlatency.export import read_records, write_records
from pytest_vlmlatency.gate.pins import Pin, add_pin, read_pins
from pytest_vlmlatency.history.run_files import write_run
from pytest_vlmlatency.history.store import open_store
from pytest_vlmlatency.records import digest_of_run
from pytest_vlmlatency.whole_files import is_draft
from tests.cases import a_call, a_case
from tests.estimator.machines import simulated
from tests.export.records import a_record
from tests.fuzzing.kinds import FINGERPRINT, _ledger_of, _read_estimator, runs
from tests.projects import FAKE_ENGINE, MEASURED, MODEL, REPOSITORY
from tests.runs import a_run

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    State = Counter[str]

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
HALF = 2  # beside 0, before an operation, and 1, after it


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Something that writes. `state` is what its readers believe, a count of each fact."""

    name: str
    prepare: Callable[[Path], object]
    run: Callable[[Path], object]
    state: Callable[[Path], State]
    status: int = 0
    adds: bool = False  # running it again adds something more


def _cli(*words: str) -> Callable[[Path], object]:
    return lambda _folder: cli.main(list(words))


def _in_history(name: str = "h") -> Callable[[Path], State]:
    def state(folder: Path) -> State:
        if not (folder / name).exists():
            return Counter()
        store = open_store(folder / name, is_readonly=True)
        index = store.index()
        assert not index.problems, index.problems
        return Counter(f"{one.text} {digest_of_run(store.read_plain(one))}" for one in index.names)

    return state


def _n_runs(folder: Path) -> State:
    """As many facts as runs: their ids are random."""
    n = sum(_in_history()(folder).values())
    return Counter([f"run {number}" for number in range(n)])


def _history(folder: Path) -> None:
    store = open_store(folder / "h")
    for run in runs()[:3]:
        store.write(run)
        write_run(run, folder / f"{run.id}.json")


def _shards(folder: Path) -> None:
    for number in (1, 2):
        case = a_case([a_call(), a_call()], name=f"test_{number}")
        write_run(a_run(number, cases=[case]), folder / f"shard-{number}.json")


def _records(folder: Path) -> State:
    files = folder.glob("records/*/*.json*")
    if not [file for file in files if not file.parent.name.startswith(".")]:
        return Counter()
    reader = read_records(folder / "records")
    found = Counter(f"{record['source']} {record['T_total']}" for record in reader)
    assert not reader.left_out
    return found


def _profiled_records(folder: Path) -> State:
    """What is believed; half a line, as a kill leaves it, is named and left out."""
    if not list(folder.glob("records/*/*.jsonl")):
        return Counter()
    reader, found = read_records(folder / "records"), Counter[str]()
    with suppress(RecordsProblem):  # there is no other line
        found.update(f"{record['source']} {record['T_total']}" for record in reader)
    return found


def _json_files(pattern: str, read: Callable[[Path], object]) -> Callable[[Path], State]:
    return lambda folder: Counter(
        f"{path.name} {read(path)}"
        for path in sorted(folder.glob(pattern))
        if not is_draft(path.name)
    )


def _project(folder: Path) -> None:
    (folder / "conftest.py").write_text(FAKE_ENGINE)
    (folder / "test_x.py").write_text(MODEL + "\n\n" + MEASURED)
    _history(folder)


def _pytest(_folder: Path) -> None:
    import pytest  # noqa: PLC0415 - this module is no test's only

    sys.path.insert(0, str(REPOSITORY))
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:hypothesispytest"]
    assert pytest.main([*options, "--rootdir=.", "--vlm-history=h", "--vlm-json=run.json"]) == 0


def _profiled(folder: Path) -> None:
    fields = {"dataset": "coco", "max_new_tokens": 16}
    ledger = _ledger_of(folder / "records")
    profile = ledger._identity
    for number in (1, 2):
        record = a_record(number, sample=str(number), **{**fields, **profile})
        configuration: Any = record.get("configuration")
        config = configuration if isinstance(configuration, dict) else {}
        if not ledger.count(config, str(number)):
            ledger.add([record])
            sys.stdout.write(f"{number}\n")
    ledger.close()


def _training(folder: Path) -> None:
    write_records(
        [a_record(number, T_total=101.0 + number, T_other=1.0 + number) for number in range(40)],
        folder / "records" / "x",
    )


def _estimator(folder: Path) -> State:
    if not (folder / "estimator.json").exists():
        return Counter()
    return Counter([str(sorted(_read_estimator(folder, folder / "estimator.json").values.items()))])


def _trained(folder: Path) -> State:
    path = folder / "estimator.json"
    return Counter([type(load_estimator(path)).__name__] if path.exists() else [])


def _pin(folder: Path) -> None:
    pin = Pin(
        run=ONE,
        commit="3f" * 20,
        started_at="2026-11-20T00:00:01+00:00",
        accepted_on="2026-11-21",
        why="a reason",
    )
    sys.stdout.write(f"{add_pin(folder, FINGERPRINT, pin, machine=['cores: 2'])}\n")


def _pinned(folder: Path) -> State:
    return Counter(pin.run for pin in read_pins(folder, FINGERPRINT))


def _kept_text(path: Path) -> str:
    plain = json.loads(path.read_text())
    return str(sorted(plain))


ONE, TWO = (run.id for run in runs()[:2])
NETWORKS: list[Any] = []
"""A former and a new one, trained once; forks save them."""


def _save_network(folder: Path) -> None:
    NETWORKS[1].save(folder / "estimator.json")
    sys.stdout.write("saved\n")


def _former_network(folder: Path) -> None:
    plan = TrainingPlan(batch_size=64, num_epochs=2)
    while len(NETWORKS) < 2:
        NETWORKS.append(LatencyEstimator(16, plan=plan).fit(simulated(200, seed=len(NETWORKS))))
    NETWORKS[0].save(folder / "estimator.json")


COMMANDS = (
    Command(name="pytest", prepare=_project, run=_pytest, state=_n_runs, adds=True),
    Command(
        name="compact", prepare=_history, run=_cli("compact", "--history", "h"), state=_in_history()
    ),
    Command(
        name="merge",
        prepare=_shards,
        run=_cli("merge", "shard-1.json", "shard-2.json", "--to", "m"),
        state=_in_history("m"),
        adds=True,
    ),
    Command(
        name="import",
        prepare=_history,
        run=_cli("import", f"{ONE}.json", f"{TWO}.json", "--history", "i"),
        state=_in_history("i"),
    ),
    Command(
        name="export",
        prepare=_history,
        run=_cli("export", ONE, TWO, "--history", "h", "--to", "records"),
        state=_records,
    ),
    Command(
        name="export-benchmark",
        prepare=_history,
        run=_cli("export-benchmark", ONE, TWO, "--history", "h", "--to", "b/"),
        state=_json_files("b/**/*.json", _kept_text),
    ),
    Command(
        name="compare",
        prepare=_history,
        run=_cli("compare", f"{ONE}.json", f"{TWO}.json", "--verdict", "v.json", "--history", "h"),
        state=_json_files("v.json", _kept_text),
        status=12,  # of runs with too few rounds for a verdict
    ),
    Command(name="accept", prepare=lambda _folder: None, run=_pin, state=_pinned),
    Command(name="profile", prepare=lambda _folder: None, run=_profiled, state=_profiled_records),
    Command(
        name="train",
        prepare=_training,
        run=_cli("estimator", "train", "--results_dir", "records", "--output_dir", "."),
        state=_trained,
    ),
    Command(name="network", prepare=_former_network, run=_save_network, state=_estimator),
)


class _Killed:
    """What kills this process at an operation, or counts them."""

    def __init__(self, at: int | None, moment: int) -> None:
        self.at, self.moment, self.n = at, moment, 0

    def patch(self) -> None:
        for name in ("fsync", "rename", "replace", "unlink", "remove", "mkdir", "rmdir"):
            setattr(os, name, self._around(getattr(os, name)))
        patched = (
            (os, "write", self._writing(os.write)),
            (os, "open", self._os_opening(os.open)),
            (io, "open", self._opening(io.open)),
        )
        for owner, name, function in patched:
            setattr(owner, name, function)

    def _os_opening(self, own: Callable[..., int]) -> Callable[..., int]:
        def opened(path: Any, flags: int, *args: Any, **named: Any) -> int:
            function = self._around(own) if flags & WRITING else own
            handle: int = function(path, flags, *args, **named)
            return handle

        return opened

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def _is_now(self, moment: int) -> bool:
        return self.n == self.at and moment == self.moment

    def _around(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def operation(*args: Any, **named: Any) -> Any:
            self.n += 1
            if self._is_now(0):
                self.die()
            number = self.n
            answer = own(*args, **named)
            if self.at == number and self.moment == 1:
                self.die()
            return answer

        return operation

    def _writing(self, own: Callable[..., int]) -> Callable[[int, bytes], int]:
        def write(handle: int, data: bytes) -> int:
            if handle <= 2:
                return own(handle, data)
            self.n += 1
            if self._is_now(HALF):
                own(handle, bytes(data)[: len(data) // 2])
                self.die()
            return own(handle, data)

        return write

    def _opening(self, own: Callable[..., Any]) -> Callable[..., Any]:
        def opened(path: Any, mode: str = "r", *args: Any, **named: Any) -> Any:
            if mode not in ("wb", "xb", "ab") or isinstance(path, int):
                return own(path, mode, *args, **named)
            raw = self._around(_Raw)(path, mode[0])
            raw.killed = self
            return io.BufferedWriter(raw)

        return opened


class _Raw(io.FileIO):
    killed: _Killed

    def write(self, data: Any) -> int:
        self.killed.n += 1
        if self.killed._is_now(HALF):
            super().write(bytes(data)[: len(data) // 2])
            self.killed.die()
        return super().write(data)


def in_a_fork(work: Callable[[], object], folder: Path, out: Path) -> int:
    """Run something in `folder` in a fork, its stdout in a file; return its exit status."""
    process = os.fork()
    if process:
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    status = 1
    with suppress(BaseException):
        os.chdir(folder)
        handle = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
        os.dup2(handle, 1)
        os.dup2(handle, 2) if out.name == "ran" else None
        sys.stdout = open(1, "w", buffering=1, closefd=False)  # noqa: SIM115
        try:
            answer = work()
            status = answer if isinstance(answer, int) else 0
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else int(end.code is not None)
        except BaseException:
            os.write(1, traceback.format_exc().encode())
        sys.stdout.flush()
    os._exit(status)


def run_killed(command: Command, folder: Path, at: int | None, moment: int) -> tuple[int, bool]:
    """Run a command until its operation; return its status and whether it reported anything."""
    out = folder.with_name("reported")

    def work() -> object:
        killed = _Killed(at, moment)
        killed.patch()
        try:
            return command.run(folder)
        finally:
            folder.with_name("count").write_text(str(killed.n))

    status = in_a_fork(work, folder, out)
    return status, out.stat().st_size > 0


class Killing:
    """A command with what it leaves where nothing kills it."""

    def __init__(self, command: Command, folder: Path) -> None:
        self.command, self.folder = command, folder / "work"
        self.n_kills = 0
        self.template = folder / "template"
        self.template.mkdir(parents=True)
        command.prepare(self.template)
        self.before = command.state(self.template)
        self._anew()
        status, _ = run_killed(command, self.folder, None, 0)
        assert status == command.status, (
            f"{command.name}: {self.folder.with_name('reported').read_text()}"
        )
        self.after = command.state(self.folder)
        assert self.after != self.before or command.name == "compact", command.name
        self.n = int(self.folder.with_name("count").read_text())

    def problems(self, at: int, moment: int) -> list[str]:
        """Kill it there, look, and run it again."""
        self._anew()
        status, has_reported = run_killed(self.command, self.folder, at, moment)
        if status != -signal.SIGKILL:
            return []  # an operation that is no write has no middle
        self.n_kills += 1
        where = f"{self.command.name}, operation {at} of {self.n}, moment {moment}"
        try:
            found = self.command.state(self.folder)
        except Exception:
            return [f"{where}: cannot be read\n{traceback.format_exc()}"]
        problems = []
        if self.before - found and self.after - found:  # a file may replace one
            problems.append(f"{where}: lost {self.before - found}")
        if found - (self.before | self.after):
            problems.append(f"{where}: made up {found - self.after}")
        is_last = self.command.name not in ("profile", "pytest", "train")  # report as they go
        if has_reported and is_last and self.after - found:
            problems.append(f"{where}: reported, and lost {self.after - found}")
        status, _ = run_killed(self.command, self.folder, None, 0)
        again = self.command.state(self.folder)
        if (
            status != self.command.status
            or self.after - again
            or (not self.command.adds and again != self.after)
        ):
            text = self.folder.with_name("reported").read_text()
            problems.append(f"{where}: again {status}, {again} for {self.after}\n{text}")
        left = [str(path) for path in self.folder.rglob("*") if is_draft(str(path))]
        if left:
            problems.append(f"{where}: run again, left {left}")
        return problems

    def _anew(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.template, self.folder)


def kill_all(
    n_kills: int, folder: Path, *, only: str = "", say: Callable[[str], object] = lambda _: None
) -> list[str]:
    """Return what is wrong after so many kills, spread evenly over all places."""
    commands = [
        Killing(command, folder / command.name) for command in COMMANDS if only in command.name
    ]
    places = [
        (one, at, moment)
        for one in commands
        for at in range(1, one.n + 1)
        for moment in (0, 1, HALF)
    ]
    step = max(1, len(places) // n_kills)
    found: list[str] = []
    for killing in commands:
        own = [place for place in places[::step] if place[0] is killing]
        before = len(found)
        for _, at, moment in own:
            found += killing.problems(at, moment)
        say(
            f"{killing.command.name}: {killing.n} operations, {killing.n_kills} kills, "
            f"{len(found) - before} findings"
        )
    return found


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what was killed and what was found; 1 if anything was."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10**6)
    parser.add_argument("--only", default="")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        found = kill_all(options.kills, Path(folder).resolve(), only=options.only, say=_say)
    _say("\n".join(found) or "nothing found")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
