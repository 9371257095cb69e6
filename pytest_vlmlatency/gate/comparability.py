"""What is comparable, by named rules. Pure.

Machines must be the same (`records.machine_differences`), and so must the work of a case: what it
was given, what came out of it in tokens, how generate() was set. Versions of software, the dtype,
the attention implementation, the number of parameters and the output itself may differ: they are
what a commit changes, so they are named and judged all the same. Clocks and temperatures, dates
and paths are no difference at all.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pytest_vlmlatency.records import Environment, Rounds, Workload

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
