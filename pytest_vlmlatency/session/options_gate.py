"""The options that ask for a gate and say what it compares with: a table, and nothing more."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import Setting, ratio

SETTINGS: tuple[Setting, ...] = (
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
