"""Single values of the command line and the ini file, read from text.

Owns what one value may be; each reader raises ArgumentTypeError with what was expected. Loaded
whenever pytest starts, so it imports nothing heavy. Also what one row of a table of options is.

The options that say how, where and which model is measured: a table, and nothing more.

The options that ask for a gate's report in further forms: a table, and nothing more.

The options that say where runs are kept: a table, and nothing more.

The options that ask for a gate and say what it compares with: a table, and nothing more.

The options that say how a gate measures both commits afresh: a table, and nothing more.

The option that lays an estimator's predictions beside what is measured: a table.

The options that hand a run on as training records: a table, and nothing more.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


IniType = Literal["int", "float", "bool", "string", "linelist"]


class Setting(NamedTuple):
    """One option: a switch where `metavar` is None, command line only where `ini_type` is None.

    One whose `ini_type` is "linelist" may be given several times.
    """

    name: str
    metavar: str | None
    read: Callable[[str], object] | None
    ini_type: IniType | None
    help: str


def at_least(least: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from `least` on."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            number = least - 1
        if number < least:
            raise argparse.ArgumentTypeError(
                f"expected a whole number of at least {least}, not {text!r}"
            )
        return number

    return read


def seconds(text: str) -> float:
    """Read a time limit: a number of seconds above 0."""
    try:
        limit_s = float(text)
    except ValueError:
        limit_s = 0.0
    if not 0 < limit_s < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number of seconds above 0, not {text!r}")
    return limit_s


def ratio(text: str) -> float:
    """Read a change as a ratio between 0 and 1, where 0.03 is 3 %."""
    try:
        change_ratio = float(text)
    except ValueError:
        change_ratio = 0.0
    if not 0 < change_ratio < 1:
        raise argparse.ArgumentTypeError(
            f"expected a change as a ratio between 0 and 1, such as 0.03 for 3 %, not {text!r}"
        )
    return change_ratio


def device(text: str) -> str:
    """Read a device: a kind that torch names, and perhaps an index."""
    kind, colon, index = text.partition(":")
    if not kind.isalpha() or (colon and not index.isdecimal()):
        raise argparse.ArgumentTypeError(
            f"expected a device such as cpu, cuda, cuda:1, xpu or mps, not {text!r}"
        )
    return text


def dtype(text: str) -> str:
    """Read a dtype, or `auto` for the one that the model was saved in."""
    from pytest_vlmlatency.options import DTYPES  # noqa: PLC0415 - only when a dtype is given

    if text not in DTYPES:
        raise argparse.ArgumentTypeError(f"expected one of {', '.join(DTYPES)}, not {text!r}")
    return text


def new_file(text: str) -> Path:
    """Read the path of a file to write, whose folder must be there now, not after measuring."""
    path = Path(text)
    if text.endswith(("/", os.sep)) or _is_folder(path):
        raise argparse.ArgumentTypeError(f"expected a file to write, but {text!r} is a folder")
    if not _is_folder(path.parent):
        raise argparse.ArgumentTypeError(
            f"expected a file in a folder that exists, but there is no folder {str(path.parent)!r}"
        )
    return path


def existing_file(text: str) -> Path:
    """Read the path of a file to read, which must be there now, not after measuring."""
    path = Path(text)
    if not _is_file(path):
        raise argparse.ArgumentTypeError(f"expected a file that exists, but there is no {text!r}")
    return path


def records_target(text: str) -> Path:
    """Read where training records go: a folder, which may be new, or a file by its ending."""
    path = Path(text)
    is_file_name = path.suffix in (".json", ".jsonl", ".parquet")
    if not text.strip() or (_is_folder(path) and is_file_name):
        raise argparse.ArgumentTypeError(f"expected a folder or a file to write, not {text!r}")
    if _is_file(path) and not is_file_name:
        raise argparse.ArgumentTypeError(
            f"expected a folder, or a file that ends in .json, .jsonl or .parquet, but {text!r} is "
            f"a file"
        )
    if not _is_folder(path.parent):
        raise argparse.ArgumentTypeError(
            f"expected a place in a folder that exists, but there is no folder {str(path.parent)!r}"
        )
    return path


def history(text: str) -> str:
    """Read where a history is: a folder, a URL, or `none`."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a folder, a URL or 'none', not an empty text")
    return text


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises for what no disk takes


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - as above


MEASURING: tuple[Setting, ...] = (
    Setting(
        "--vlm-rounds",
        "N",
        at_least(1),
        "int",
        "Keep exactly N rounds of each case. Default: repeat until the noise is low or has "
        "stopped falling, or the time limit is reached.",
    ),
    Setting(
        "--vlm-warmup-rounds",
        "N",
        at_least(0),
        "int",
        "Run each case N times before it is measured, at its full shape. Default: 2.",
    ),
    Setting(
        "--vlm-max-time",
        "SECONDS",
        seconds,
        "float",
        "Begin no further round of a case after this time, unless --vlm-rounds asks for more. "
        "Default: 20.",
    ),
    Setting(
        "--vlm-per-token",
        None,
        None,
        "bool",
        "Time every decode step too: a mode for finding a slow step. It costs a little itself, so "
        "its cases are marked.",
    ),
    Setting(
        "--vlm-threads",
        "N",
        at_least(0),
        "int",
        "CPU threads while a model on the CPU is measured, pinned to as many cores. 0 leaves "
        "threads and cores as they are. Default: 1, which has the least noise; where something is "
        "compiled, as many as torch has, since it would be compiled again for another number.",
    ),
    Setting(
        "--vlm-device",
        "DEVICE",
        device,
        "string",
        "Measure on this device: cpu, cuda, cuda:1, xpu, mps. --vlm-model is placed there; a model "
        "of your own that lives elsewhere is an error. Default: --vlm-model on the CPU, your own "
        "model wherever it is.",
    ),
    Setting(
        "--vlm-model",
        "MODEL",
        None,
        "string",
        "What the vlm_model fixture loads: a hub id, a folder written by save_pretrained(), or "
        "dummy:NAME, a real shape with random weights.",
    ),
    Setting(
        "--vlm-dtype",
        "DTYPE",
        dtype,
        "string",
        "The dtype of --vlm-model: auto (as it was saved), float32, float16 or bfloat16. "
        "Default: auto.",
    ),
    Setting(
        "--vlm-attn",
        "NAME",
        None,
        "string",
        "The attention implementation of --vlm-model, as transformers names them: eager, sdpa, "
        "flash_attention_2 and others. Default: the model's own choice.",
    ),
    Setting(
        "--vlm-compile",
        None,
        None,
        "bool",
        "Compile each decoder block of --vlm-model with torch.compile().",
    ),
    Setting(
        "--vlm-trust-remote-code",
        None,
        None,
        None,
        "Let --vlm-model run code that comes with it. Command line only: it is your machine.",
    ),
    Setting(
        "--vlm-json",
        "FILE",
        new_file,
        None,
        "Write the whole run to FILE: every call with its phases, the machine, the commit.",
    ),
)


OUTPUTS: tuple[Setting, ...] = (
    Setting(
        "--vlm-markdown",
        "FILE",
        new_file,
        None,
        "Write the gate's report to FILE as Markdown. In GitHub Actions it goes to the step's "
        "summary by itself.",
    ),
    Setting(
        "--vlm-verdict",
        "FILE",
        new_file,
        None,
        "Write the gate's report to FILE as JSON, for programs: outcome, exit status, what fails "
        "in which phase, and every verdict.",
    ),
)


HISTORY: tuple[Setting, ...] = (
    Setting(
        "--vlm-history",
        "URL",
        history,
        "string",
        "Where every run that measured is kept: a folder, or a URL that fsspec reaches (s3://, "
        "gs://, ...); 'none' keeps nothing. Default: .vlm_latency/ in the repository; nothing is "
        "kept outside of one.",
    ),
    Setting(
        "--vlm-history-readonly",
        None,
        None,
        "bool",
        "Read the history, and keep this run nowhere: for pull requests from forks.",
    ),
)


GATE: tuple[Setting, ...] = (
    Setting(
        "--vlm-gate",
        None,
        None,
        None,
        "Judge each phase of each case against the baseline, after the tests: slower, faster, same "
        "or undecided. The run then ends with 10 if a phase is slower or over its budget, with 11 "
        "if one is undecided under --vlm-strict, with 12 if the gate could not be applied, and "
        "otherwise as pytest ends. What looks slower is measured again beside the baseline's "
        "commit before it is called so.",
    ),
    Setting(
        "--vlm-baseline",
        "REF",
        None,
        "string",
        "Compare with the commit where HEAD left this branch, tag or commit: with clean runs of it "
        "and of the commits before it on this machine, or with that commit measured now. A run "
        "that `vlmlatency accept` pinned for this machine comes first. Default: the default branch "
        "of origin, else main or master; on that branch itself, the commit before HEAD, or HEAD "
        "while there are uncommitted changes.",
    ),
    Setting(
        "--vlm-strict",
        None,
        None,
        "bool",
        "Let a phase that stays undecided fail the gate (status 11). Without it, undecided phases "
        "are shown and pass.",
    ),
    Setting(
        "--vlm-fail-fast",
        None,
        None,
        "bool",
        "Measure no more fresh pairs once it is certain that the gate fails: a phase is slower or "
        "over its budget (or undecided under --vlm-strict). What is open by then is undecided, or "
        "judged by the pairs that are there.",
    ),
    Setting(
        "--vlm-target",
        "RATIO",
        ratio,
        "float",
        "The change that a phase is to be judged for, 0.03 for 3 %%: one of that size is found "
        "with high power, a smaller one may pass as same. The marker sets it by phase: "
        'target={"decode": 0.02}. Default: 0.03.',
    ),
)


CONFIRMATION: tuple[Setting, ...] = (
    Setting(
        "--vlm-confirm",
        None,
        None,
        "bool",
        "Let --vlm-gate measure what looks slower again, in fresh processes of the baseline's "
        "commit and of the working tree, in turn. This is so by default; the ini file may say "
        "otherwise.",
    ),
    Setting(
        "--vlm-no-confirm",
        None,
        None,
        None,
        "Judge by the history alone: far less is found, and what is doubtful stays undecided.",
    ),
    Setting(
        "--vlm-skip-unchanged",
        None,
        None,
        "bool",
        "Pass without fresh pairs where the tests read none of the changed files: documentation, "
        "files of CI services, and Python files that are neither imported nor named by what is "
        "imported. Every file in a folder of the tests counts as read. Without this option, such a "
        "change is reported. A tree identical to the baseline's always passes at once.",
    ),
    Setting(
        "--vlm-confirm-path",
        "FOLDER",
        None,
        "linelist",
        "Where the project's own packages are, relative to the repository's root; comes before "
        "installed packages in each of the fresh processes. May be given several times. Default: "
        "the root, and src where there is one.",
    ),
    Setting(
        "--vlm-confirm-setup",
        "COMMAND",
        None,
        "string",
        "Run this shell command in the checkout of the baseline before it is measured, for a "
        "project that must be built. $VLMLATENCY_WORKING_TREE is the working tree.",
    ),
    Setting(
        "--vlm-confirm-time",
        "SECONDS",
        seconds,
        "float",
        "Begin no pair of fresh processes that would not end within this time; what was decided "
        "by then is kept. Default: 600.",
    ),
)


PREDICT = "--vlm-predict"

PREDICTION: tuple[Setting, ...] = (
    Setting(
        PREDICT,
        "MODEL.json",
        existing_file,
        None,
        "Show what this estimator predicts beside what is measured, and flag cases that are off by "
        "more than its interval. See docs/estimator.md.",
    ),
)


EXPORT = "--vlm-export"

RECORDS: tuple[Setting, ...] = (
    Setting(
        EXPORT,
        "DIR",
        records_target,
        None,
        "Write a training record for each kept call: DIR/<dataset>/<configuration>.json, or one "
        "file that ends in .json, .jsonl or .parquet. What is there stays. See docs/export.md.",
    ),
)

SETTINGS = (*MEASURING, *OUTPUTS, *HISTORY, *GATE, *CONFIRMATION, *PREDICTION, *RECORDS)
"""Every option, in the order of --help."""
