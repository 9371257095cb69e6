"""The options that say how a gate measures both commits afresh: a table, and nothing more."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import Setting, seconds

SETTINGS: tuple[Setting, ...] = (
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
