"""The options that ask for a gate's report in further forms: a table, and nothing more."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import Setting, new_file

SETTINGS: tuple[Setting, ...] = (
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
