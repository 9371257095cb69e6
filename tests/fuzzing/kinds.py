"""Every kind of file that is read: how one is made, and what is believed of it.

A reader returns each value that would be believed, by where it stands, and whether something was
named as left out. A whole refusal is an exception of this package.
"""

from __future__ import annotations

import json
import shutil
from argparse import ArgumentTypeError
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pytest_vlmlatency.errors import HistoryProblem, UsageProblem
from pytest_vlmlatency.estimator import (
    LatencyEstimator,
    LookUpEstimator,
    RooflineEstimator,
    SeparateEstimator,
    load_estimator,
)
from pytest_vlmlatency.estimator.columns import table_of
from pytest_vlmlatency.estimator.commands.searching import _accuracies
from pytest_vlmlatency.estimator.training import TrainingPlan
from pytest_vlmlatency.export import read_records, write_records
from pytest_vlmlatency.gate.pins import Pin, add_pin, read_pins
from pytest_vlmlatency.history.benchmark_files import file_of_run
from pytest_vlmlatency.history.compaction import compact
from pytest_vlmlatency.history.names import name_of
from pytest_vlmlatency.history.run_files import run_in_file, write_run
from pytest_vlmlatency.history.store import file_of, open_store
from pytest_vlmlatency.profiling.configurations import read_configurations
from pytest_vlmlatency.profiling.dataset import open_dataset
from pytest_vlmlatency.profiling.ledger import Ledger
from pytest_vlmlatency.records import DIGEST, digest_of_run, run_rounds_of
from pytest_vlmlatency.report.gate_verdict import run_in_verdict, verdict_json
from pytest_vlmlatency.session.option_table import SETTINGS
from tests.cases import a_call, a_case
from tests.estimator.machines import simulated
from tests.estimator.test_files import sealed as forged_estimator
from tests.export.records import a_record
from tests.fuzzing.mutations import mutated_bytes, mutated_json, mutated_lines, mutated_text
from tests.gate_reports import WHOLE
from tests.history.test_golden import GOLDEN
from tests.profiling.datasets import GRID, questions
from tests.runs import a_run

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

FINGERPRINT = "0123456789ab"
SQL = "SELECT name, case_id, phase, sum(time_ms) FROM rounds GROUP BY ALL"
PROFILE = {"model_name": "a model", "device": "cpu", "n_threads": 1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Believed:
    """What a reader believes, by where it stands; `is_named`: something was named as left out."""

    values: Mapping[str, object]
    is_named: bool = False


Words = Callable[["Path", "Path"], "list[object]"]
"""A command's words, of the folder that it reads and the one that it may write into."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of file. `is_sealed`: another value than the one that was written is not believed.

    What has no digest of its own (a file of another program, or of an older version) is not.
    """

    name: str
    make: Callable[[Path], Path]
    read: Callable[[Path, Path], Believed]
    mutate: Callable[[Random, bytes], bytes] = mutated_json
    is_sealed: bool = False
    commands: tuple[Words, ...] = ()
    share: float = 1.0


def runs() -> list[Any]:
    """Return four runs of a case with spans and knobs, and one that was not measured."""
    off = a_case((), name="test_off", is_measured=False)
    return [
        a_run(
            number,
            cases=[
                a_case([a_call(decode_ms=number + share) for share in (0.1, 0.7, 0.3)], params={}),
                a_case([a_call(vision_ms=0)] * 2, name="test_b", config={"top_k": 4}),
                off,
            ],
        )
        for number in (1, 2, 3, 4)
    ]


def _forged(
    seal: Callable[[dict[str, Any]], dict[str, Any]],
    mutate: Callable[[Random, bytes], bytes] = mutated_json,
) -> Callable[[Random, bytes], bytes]:
    """Return a change whose digest is made to match: what checks the values themselves meets it."""

    def mutated(random: Random, content: bytes) -> bytes:
        changed = mutate(random, content)
        lines = changed.splitlines() if mutate is mutated_lines else [changed]
        with suppress(ValueError, RecursionError, AttributeError, KeyError, TypeError):
            return b"\n".join(json.dumps(seal(json.loads(line))).encode() for line in lines)
        return changed

    return mutated


def _sealed_run(plain: dict[str, Any]) -> dict[str, Any]:
    plain.pop(DIGEST, None)
    return {**plain, DIGEST: digest_of_run(plain)}


def _sealed_estimator(plain: dict[str, Any]) -> dict[str, Any]:
    sealed: dict[str, Any] = json.loads(forged_estimator(plain))
    return sealed


def _unsealed_record(plain: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in plain.items() if name != "record_digest"}


def _history(folder: Path) -> Path:
    store = open_store(folder)
    for run in runs():
        store.write(run)
    return folder / file_of(name_of(runs()[1]))


def _compacted(folder: Path) -> Path:
    store = open_store(folder)
    for run in runs()[:3]:
        store.write(run)
    compact(store)
    store.write(runs()[3])
    (file,) = (folder / "compacted").glob("*.parquet")
    return file


def _golden(folder: Path) -> Path:
    (folder / "runs").mkdir(parents=True)
    run = run_in_file(GOLDEN / "run_schema_2.json")
    target = folder / file_of(name_of(run))
    shutil.copy(GOLDEN / "run_schema_2.json", target)
    return target


def _golden_parquet(folder: Path) -> Path:
    (folder / "compacted").mkdir(parents=True)
    shutil.copy(GOLDEN / "compacted_format_1.parquet", folder / "compacted")
    return folder / "compacted" / "compacted_format_1.parquet"


def _read_history(folder: Path, _file: Path) -> Believed:
    store = open_store(folder, is_readonly=True)
    index = store.index()
    stored = store.read(index.names)
    problems = [*index.problems, *stored.problems]
    values: dict[str, object] = {name_of(run.header).text: run for run in stored.runs}
    for name in index.names:
        try:
            values[f"{name.text}, whole"] = store.read_whole(name)
        except HistoryProblem as problem:
            problems.append(str(problem))
    return Believed(values=values, is_named=bool(problems))


def _copied(folder: Path, out: Path) -> Path:
    shutil.copytree(folder, out / "history")
    return out / "history"


OF_A_HISTORY: tuple[Words, ...] = (
    lambda folder, _: ["history", "--history", folder],
    lambda folder, _: ["history", "--history", folder, "--json", "--last", 0],
    lambda folder, _: ["history", "--history", folder, "--sql", SQL],
    lambda folder, out: ["compact", "--history", _copied(folder, out)],
    lambda folder, out: ["compact", "--history", _copied(folder, out), "--keep-newest", 1],
    lambda folder, _: [
        "trend",
        "--history",
        folder,
        "--machine",
        name_of(runs()[0]).fingerprint,
    ],
    lambda folder, _: ["compare", runs()[1].id, runs()[3].id, "--history", folder],
    lambda folder, _: ["compare", runs()[3].id, runs()[1].id, "--history", folder],
    lambda folder, out: ["export", runs()[1].id, "--history", folder, "--to", out / "r.jsonl"],
    lambda folder, out: ["export-benchmark", runs()[1].id, "--history", folder, "--to", out / "b"],
    lambda folder, out: [
        "merge",
        runs()[0].id,
        runs()[1].id,
        "--history",
        folder,
        "--to",
        out / "m",
    ],
)


def _run_file(folder: Path) -> Path:
    folder.mkdir(parents=True)
    write_run(runs()[1], folder / "run.json")
    write_run(runs()[0], folder / "other.json")
    return folder / "run.json"


def _read_run_file(_folder: Path, file: Path) -> Believed:
    run = run_in_file(file)
    return Believed(values={"run": run, "rounds": run_rounds_of(run)})


OF_A_RUN_FILE: tuple[Words, ...] = (
    lambda folder, out: ["import", folder / "run.json", "--history", out / "h"],
    lambda folder, out: ["export", folder / "run.json", "--to", out / "records"],
    lambda folder, out: ["export-benchmark", folder / "run.json", "--to", f"{out / 'b'}/"],
    lambda folder, _: ["compare", folder / "run.json", folder / "other.json"],
    lambda folder, _: ["compare", folder / "other.json", folder / "run.json"],
    lambda folder, out: ["merge", folder / "run.json", folder / "other.json", "--to", out / "m"],
)


def _benchmark_file(folder: Path) -> Path:
    folder.mkdir(parents=True)
    plain = file_of_run(runs()[1])
    (folder / "run.json").write_text(json.dumps(plain))
    return folder / "run.json"


def _records(suffix: str) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        records = [
            a_record(number, T_total=101.0 + number, T_other=1.0 + number, n_threads=2, mine="x")
            for number in range(4)
        ]
        target = folder if suffix == "" else folder / f"records{suffix}"
        (file,) = write_records(records, target)
        return file

    return make


def _read_records(folder: Path, file: Path) -> Believed:
    reader = read_records(folder)
    values = {
        f"{record['source']} {name}": value
        for record in reader
        for name, value in record.items()
        if type(value) in (int, float)
    }
    table_of(folder)
    is_named = bool(reader.left_out) or file.suffix != ".parquet"  # a removed line leaves no trace
    return Believed(values=values, is_named=is_named)


OF_RECORDS: tuple[Words, ...] = (
    lambda folder, out: ["export", folder, "--to", out / "r.parquet"],
    lambda folder, out: ["export", folder, "--to", out / "r"],
)


def _ledger_of(folder: Path) -> Ledger:
    return Ledger(folder, "coco", PROFILE, n_new_tokens={"1": 16, "2": 16})


def _ledger(folder: Path) -> Path:
    ledger = _ledger_of(folder)
    fields = {"dataset": "coco", "max_new_tokens": 16, **PROFILE}
    ledger.add([a_record(number, sample=str(number), **fields) for number in (1, 2)])
    ledger.close()
    (file,) = (folder / "coco").glob("*.jsonl")
    return file


def _read_ledger(folder: Path, file: Path) -> Believed:
    _ledger_of(folder).close()
    return _read_records(folder, file)


def _dataset(folder: Path) -> Path:
    folder.mkdir(parents=True)
    return questions(folder)


def _read_dataset(_folder: Path, file: Path) -> Believed:
    return Believed(values={sample.id: sample.prompt for sample in open_dataset(file).samples})


def _json_file(content: object) -> Callable[[Path], Path]:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "file.json").write_text(json.dumps(content))
        return folder / "file.json"

    return make


def _pins(folder: Path) -> Path:
    folder.mkdir(parents=True)
    pin = Pin(
        run="1" * 16,
        commit="3f" * 20,
        started_at="2026-11-20T00:00:01+00:00",
        accepted_on="2026-11-21",
        why="a reason",
        cases=("tests/test_x.py::test_a",),
    )
    return add_pin(folder, FINGERPRINT, pin, machine=["cores: 2"])


def _verdict(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "verdict.json").write_text(verdict_json(WHOLE))
    return folder / "verdict.json"


def _estimator(make_estimator: Callable[[], Any], *, is_weights: bool = False) -> Any:
    def make(folder: Path) -> Path:
        folder.mkdir(parents=True)
        make_estimator().save(folder / "estimator.json")
        if not is_weights:
            return folder / "estimator.json"
        (file,) = folder.glob("*.safetensors")
        return file

    return make


def _fitted(estimator: Any) -> Callable[[], Any]:
    return lambda: estimator.fit(simulated(200, seed=1))


def _network() -> Any:
    plan = TrainingPlan(batch_size=64, num_epochs=2)
    return LatencyEstimator(16, plan=plan).fit(simulated(200, seed=1))


def _read_estimator(folder: Path, _file: Path) -> Believed:
    config = {"tier": "low", "top_k": 4, "num_active_blocks": 8}
    config |= {"vision_tokens": 300, "text_tokens": 40}
    estimator: Any = load_estimator(folder / "estimator.json")
    values = dict(estimator.predict(config))
    values |= {f"p90 {name}": float(ms[0]) for name, ms in _p90(estimator, config).items()}
    return Believed(values=values)


def _p90(estimator: Any, config: Mapping[str, object]) -> Any:
    return estimator.predict_quantile(config, 0.9)


def _setting(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "value").write_text("3:decode=0.5")
    return folder / "value"


def _read_settings(_folder: Path, file: Path) -> Believed:
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    values = {}
    for setting in SETTINGS:
        if setting.read is not None:
            try:
                values[setting.name] = str(setting.read(text))
            except (ArgumentTypeError, TypeError, ValueError):
                continue  # `said_in_ini` names the key
    if not values:
        raise UsageProblem("no setting takes this text")
    return Believed(values=values)


KINDS = (
    Kind(
        name="run",
        make=_history,
        read=_read_history,
        commands=OF_A_HISTORY,
        is_sealed=True,
        share=2,
    ),
    Kind(
        name="compacted",
        make=_compacted,
        read=_read_history,
        mutate=mutated_bytes,
        commands=OF_A_HISTORY,
        is_sealed=True,
        share=2,
    ),
    Kind(
        name="forged run",
        make=_history,
        read=_read_history,
        mutate=_forged(_sealed_run),
        commands=OF_A_HISTORY,
        share=2,
    ),
    Kind(
        name="forged run file",
        make=_run_file,
        read=_read_run_file,
        mutate=_forged(_sealed_run),
        commands=OF_A_RUN_FILE,
        share=2,
    ),
    Kind(
        name="forged roofline",
        make=_estimator(_fitted(RooflineEstimator())),
        read=_read_estimator,
        mutate=_forged(_sealed_estimator),
    ),
    Kind(
        name="forged look-up",
        make=_estimator(_fitted(LookUpEstimator())),
        read=_read_estimator,
        mutate=_forged(_sealed_estimator),
    ),
    Kind(
        name="forged network",
        make=_estimator(_network),
        read=_read_estimator,
        mutate=_forged(_sealed_estimator),
    ),
    Kind(
        name="older records",
        make=_records(".jsonl"),
        read=_read_records,
        mutate=_forged(_unsealed_record, mutated_lines),
        commands=OF_RECORDS,
    ),
    Kind(name="older run", make=_golden, read=_read_history, commands=OF_A_HISTORY[:5]),
    Kind(
        name="older compacted",
        make=_golden_parquet,
        read=_read_history,
        mutate=mutated_bytes,
        commands=OF_A_HISTORY[:5],
    ),
    Kind(
        name="run file",
        make=_run_file,
        read=_read_run_file,
        commands=OF_A_RUN_FILE,
        is_sealed=True,
        share=2,
    ),
    Kind(
        name="pytest-benchmark",
        make=_benchmark_file,
        read=lambda _folder, _file: Believed(values={}),
        commands=OF_A_RUN_FILE[:1],
        share=2,
    ),
    Kind(
        name="records, json",
        make=_records(""),
        read=_read_records,
        commands=OF_RECORDS,
        is_sealed=True,
    ),
    Kind(
        name="records, jsonl",
        make=_records(".jsonl"),
        read=_read_records,
        mutate=mutated_lines,
        commands=OF_RECORDS,
        is_sealed=True,
    ),
    Kind(
        name="records, parquet",
        make=_records(".parquet"),
        read=_read_records,
        mutate=mutated_bytes,
        commands=OF_RECORDS,
        is_sealed=True,
    ),
    Kind(
        name="ledger",
        make=_ledger,
        read=_read_ledger,
        mutate=mutated_lines,
        is_sealed=True,
        share=2,
    ),
    Kind(name="dataset", make=_dataset, read=_read_dataset, mutate=mutated_lines),
    Kind(
        name="configurations",
        make=_json_file(GRID),
        read=lambda _, file: Believed(values={"n": len(read_configurations(file))}),
    ),
    Kind(
        name="accuracies",
        make=_json_file([{"tier": "low", "top_k": 4, "accuracy": 0.5}]),
        read=lambda _, file: Believed(values={"n": len(_accuracies(file))}),
    ),
    Kind(
        name="pins",
        make=_pins,
        read=lambda folder, _: Believed(values={"n": len(read_pins(folder, FINGERPRINT))}),
    ),
    Kind(
        name="verdict",
        make=_verdict,
        read=lambda _, file: Believed(values={"title": run_in_verdict(file).title}),
    ),
    Kind(
        name="roofline",
        make=_estimator(_fitted(RooflineEstimator())),
        read=_read_estimator,
        is_sealed=True,
    ),
    Kind(
        name="look-up",
        make=_estimator(_fitted(LookUpEstimator())),
        read=_read_estimator,
        is_sealed=True,
    ),
    Kind(
        name="separate",
        make=_estimator(_fitted(SeparateEstimator())),
        read=_read_estimator,
        is_sealed=True,
    ),
    Kind(name="network", make=_estimator(_network), read=_read_estimator, is_sealed=True),
    Kind(
        name="weights",
        make=_estimator(_network, is_weights=True),
        read=_read_estimator,
        mutate=mutated_bytes,
        is_sealed=True,
    ),
    Kind(name="settings", make=_setting, read=_read_settings, mutate=mutated_text),
)
