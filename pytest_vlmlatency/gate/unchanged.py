"""What a change that the tests do not read means for a verdict, in words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_vlmlatency.paired.changes import files_in_words, possibly_read
from pytest_vlmlatency.paired.git import SHORT

if TYPE_CHECKING:
    from pathlib import Path

    from pytest_vlmlatency.paired.changes import Changes, Read


@dataclass(frozen=True, slots=True, kw_only=True)
class Sameness:
    """Why both sides run the same code, "" where that is not certain, and what to report of it."""

    reason: str = ""
    remarks: tuple[str, ...] = ()


def sameness(
    root: Path, commit: str, changes: Changes, read: Read, *, is_skipping: bool
) -> Sameness:
    """Return whether a change is none, or, where such ones are skipped, none that tests read."""
    short = commit[:SHORT]
    if changes.is_identical:
        reason = f"the same files as {short}, whose tree is identical: no pair can differ"
        return Sameness(reason=reason, remarks=(f"Same without fresh pairs: {reason}.",))
    if changes.hidden_from_git and not changes.paths:
        why = f"git ignores files that the tests import: {files_in_words(changes.hidden_from_git)}"
        return Sameness(remarks=(f"Measured, though the tree is that of {short}: {why}.",))
    may_be_read = possibly_read(root, changes, read)
    if may_be_read:
        files = f"the tests may read {files_in_words(may_be_read)}, changed since {short}"
        remark = f"Measured in spite of --vlm-skip-unchanged: {files}."
        return Sameness(remarks=(remark,) if is_skipping else ())
    what = f"since {short}, only files changed that the tests do not read: "
    what += files_in_words(changes.paths)
    if is_skipping:
        return Sameness(reason=what, remarks=(f"Same without fresh pairs: {what}.",))
    remark = f"{what[0].upper()}{what[1:]}. Such a change passes at once with --vlm-skip-unchanged."
    return Sameness(remarks=(remark,))
