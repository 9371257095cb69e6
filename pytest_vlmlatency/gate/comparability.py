"""What is comparable, by named rules: machines, and rounds of a case. Pure.

Machines must be the same (`records.machine_differences`), and so must the work of a case: inputs,
output tokens, settings of generate(). Versions of software, the dtype, the attention
implementation, the number of parameters and the output itself may differ: a commit changes them,
so differences are named and the case is judged. Clocks, temperatures, dates and paths are no
differences.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

    from pytest_vlmlatency.records import Environment, Rounds, RunRounds, Workload


PACKAGES_OF_TESTS = frozenset({"pytest", "pytest-benchmark", "pytest-xdist", "pytest-vlmlatency"})
"""What runs the tests and not the model: a newer one is no reason for another latency, but for
ours, whose way of measuring may change; that one is named."""

_DEVICES = re.compile(r"(?:^|, )\w+(?::\d+)?(?= \(|, |$)")
"""Each device of "cuda:0 (NVIDIA H200), cuda:1 (NVIDIA H200)"."""

_DTYPE = re.compile(r"\b(?:float|bfloat|complex|u?int|bool)\w*(?=\[)")


def work_differences(before: Rounds, after: Rounds) -> tuple[str, ...]:
    """Return in words what differs in the work of two cases, so that they can't be compared."""
    return _differences(_work(before), _work(after))


def named_differences(before: Rounds, after: Rounds) -> tuple[str, ...]:
    """Return in words what differs between two comparable cases and is judged all the same."""
    if before.workload is None or after.workload is None:
        return ()
    return _differences(_make(before.workload), _make(after.workload))


def version_differences(before: Environment, after: Environment) -> tuple[str, ...]:
    """Return in words which software differs, "torch: 2.12.0, then 2.13.0"; () if none."""
    return _differences(_versions(before), _versions(after))


def _work(rounds: Rounds) -> Mapping[str, object]:
    """Return what must be the same of a case, by the name of its rule."""
    work = rounds.workload
    facts: dict[str, object] = {
        "device kind": rounds.device.partition(":")[0],
        "devices": len(_DEVICES.findall(rounds.device)),
        "measure": rounds.measure,
        "threads": rounds.n_threads,
        "configuration": _listed(rounds.config or {}),
    }
    if work is None:
        return facts
    return facts | {
        "model": work.model,
        "batch size": work.batch_size,
        "vision tokens": work.n_vision_tokens,
        "text tokens": work.n_text_tokens,
        "output tokens": work.n_output_tokens,
        **{f"input {name}": _shape(described) for name, described in work.inputs.items()},
        **{f"generation setting {name}": value for name, value in work.generation.items()},
    }


def _make(work: Workload) -> Mapping[str, object]:
    """Return what is named and judged all the same, of a case's workload."""
    return {
        "parameters": work.n_parameters,
        "dtype": work.dtype,
        "attention": work.attention,
        **{f"dtype of input {name}": _dtypes(text) for name, text in work.inputs.items()},
        "output": work.output_digest,
    }


def _versions(environment: Environment) -> Mapping[str, object]:
    named = environment.versions.items()
    ours = "pytest-vlmlatency"
    return {name: what for name, what in named if name == ours or name not in PACKAGES_OF_TESTS}


def _differences(before: Mapping[str, object], after: Mapping[str, object]) -> tuple[str, ...]:
    names = dict.fromkeys((*before, *after))
    return tuple(
        f"{name}: {_told(before, name)}, then {_told(after, name)}"
        for name in names
        if before.get(name) != after.get(name)
    )


def _told(facts: Mapping[str, object], name: str) -> object:
    value = facts.get(name)
    return "none" if value is None else value


def _listed(values: Mapping[str, object]) -> str | None:
    return ", ".join(f"{name}={values[name]}" for name in sorted(values)) or None


def _shape(described: str) -> str:
    """Return an input's shapes without their dtypes: "float32[1, 3, 32, 32]" is [1, 3, 32, 32]."""
    return _DTYPE.sub("", described)


def _dtypes(described: str) -> str | None:
    return ", ".join(dict.fromkeys(_DTYPE.findall(described))) or None


def software_remarks(before: Environment, after: Environment) -> list[str]:
    """Return a remark for each version that differs and is judged all the same."""
    return [f"Judged all the same: {what}" for what in version_differences(before, after)]


def matching(
    rounds: Rounds, runs: Sequence[RunRounds], *, beside: Container[str] = ()
) -> tuple[tuple[Rounds, ...], str]:
    """Return the rounds of a case in runs that did the same work, or why there are none.

    `beside` are the ids of the other cases of its run. Runs of earlier versions have the case under
    its former id. Runs in which several cases have its id are left out: which of them it is, is not
    known.
    """
    named = [run.named(rounds.case_id, rounds.former_id) for run in runs]
    found = [of_run[0] for of_run in named if len(of_run) == 1]
    same = tuple(one for one in found if not work_differences(one, rounds))
    if same:
        return same, ""
    if found:
        differences = "; ".join(work_differences(found[-1], rounds))
        return (), f"the stored runs of this case did other work ({differences})"
    return (), _doubt(rounds, named, runs, beside)


def new_names(case_ids: Iterable[str], renamed: Mapping[str, str]) -> tuple[str, ...]:
    """Return ids of cases by the paths of their files now; `renamed` are those with former ones."""
    now = {before: after for after, before in renamed.items()}
    parted = (case_id.partition("::") for case_id in case_ids)
    return tuple(f"{now.get(file, file)}{separator}{rest}" for file, separator, rest in parted)


def under_new_names(run: RunRounds, renamed: Mapping[str, str]) -> RunRounds:
    """Return a stored run whose cases have the ids that the renamed files give them now."""
    if not renamed:
        return run
    ids = new_names([rounds.case_id for rounds in run.cases], renamed)
    cases = zip(run.cases, ids, strict=True)
    return replace(run, cases=tuple(replace(rounds, case_id=now) for rounds, now in cases))


def uncollected(candidate: RunRounds, runs: Sequence[RunRounds]) -> tuple[Rounds, ...]:
    """Return the cases of the newest run of the baseline that the candidate doesn't have."""
    if not runs:
        return ()
    collected = {name for rounds in candidate.cases for name in (rounds.case_id, rounds.former_id)}
    return tuple(rounds for rounds in runs[-1].cases if rounds.case_id not in collected)


def _doubt(
    rounds: Rounds,
    named: Sequence[Sequence[Rounds]],
    runs: Sequence[RunRounds],
    beside: Container[str],
) -> str:
    """Return why stored cases may be of this test and are not compared with; "" if none may be."""
    several = max(named, key=len, default=())
    if several:
        return (
            f"the stored runs have {len(several)} cases under the id {several[0].case_id}: an "
            f"earlier version kept tests of several folders, or attempts at one, under one id"
        )
    folders = rounds.case_id.partition("::")[0].count("/")
    shorter = [rounds.case_id.split("/", n)[n] for n in range(1, folders + 1)]
    former = next(
        (
            name
            for run in reversed(runs)
            for name in shorter
            if name in run.by_id and name not in beside
        ),
        None,
    )
    if former is None:
        return ""
    return (
        f"the stored runs have {former}, which may be this test: an earlier version named tests "
        f"of submodules from their own root, and several may have had this id"
    )
