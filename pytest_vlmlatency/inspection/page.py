"""What was found, as lines of text for a terminal. Pure.

The tree of modules as lines of text. Pure.
"""

from __future__ import annotations

from textwrap import wrap
from typing import TYPE_CHECKING

from pytest_vlmlatency.inspection.findings import (
    Check,
    Inspection,
    ModuleRow,
    Tokens,
    Verdict,
    number_of_parameters,
    times,
)
from pytest_vlmlatency.printing import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from pytest_vlmlatency.inspection.findings import CallRow, ModuleRow


VISION_RUNS = {
    "before": "Vision runs before the prompt's forward.",
    "inside": "Vision runs inside the prompt's forward.",
    "both": "Vision runs in both places: before the prompt's forward, and inside it.",
    "never": "No vision ran inside generate(); embeddings or a cache may hold images.",
}
NO_TIMES = (
    "No times: one call is no measurement. The vlm_latency fixture measures; --trace FILE shows "
    "how one call went."
)
INDENT = "  "


def page_lines(found: Inspection, *, width: int) -> list[str]:
    """Return the whole page; tables keep to `width` as far as names allow, prose always."""
    return [
        *_header(found, width),
        "",
        *tree_lines(found.modules, width=width),
        "",
        *_calls(found, width),
        "",
        *_tokens(found, width),
        "",
        *_checks(found.checks, width),
        "",
        *_untold(found.untold, width),
        *_hanging(NO_TIMES, "", width),
    ]


def _header(found: Inspection, width: int) -> list[str]:
    work = found.workload
    facts = [
        work.model,
        f"{number_of_parameters(work.n_parameters)} parameters",
        work.dtype,
        f"{work.attention} attention",
        f"on {found.device}",
    ]
    lines = [found.source]
    for text in (found.description, ", ".join(facts)):
        lines += _hanging(text, INDENT, width)
    return lines


def _calls(found: Inspection, width: int) -> list[str]:
    lines = ["calls in one generate()"]
    phase_width = max(len(row.phase) for row in found.calls)
    for row in found.calls:
        start = f"{INDENT}{row.phase:<{phase_width}}  {_how_often(row):<10}"
        lines += _hanging(_what(row, found.modules[0]), start, width)
    lines += _hanging(_vision_runs(found), INDENT, width)
    lines += _hanging(_experts(found.phase_map.experts), INDENT, width)
    return [*lines, *_hanging(_compiled(found), INDENT, width)]


def _vision_runs(found: Inspection) -> str:
    """Say where vision runs inside generate(), and why it does not where no image was passed."""
    if found.phase_map.vision_runs == "never" and "text-only" in found.labels:
        return "No image was passed, so no vision ran."
    return VISION_RUNS[found.phase_map.vision_runs]


def _compiled(found: Inspection) -> str:
    """Say what runs compiled; nothing where nothing does."""
    regions = ", ".join(region or "the model" for region in found.phase_map.compiled)
    whole = f"Compiled as a whole: {regions}." if regions else ""
    is_by_itself = "compiled" in found.labels and not regions
    return "generate() compiles decode steps by itself." if is_by_itself else whole


def _experts(experts: Mapping[str, str]) -> str:
    """Say how experts are computed; nothing where no more than the default is set."""
    if set(experts.values()) <= {"eager"}:
        return ""
    if len(set(experts.values())) == 1:
        return f"Experts implementations of its parts: {next(iter(experts.values()))}."
    listed = "; ".join(f"{name} in {phase}" for phase, name in experts.items())
    return f"Experts implementations of its parts: {listed}."


def _how_often(row: CallRow) -> str:
    return "each step" if row.n_calls is None else times(row.n_calls)


def _what(row: CallRow, root: ModuleRow) -> str:
    text = row.what or f"the model, {root.type}"
    if row.inside:
        text += f"(), which runs {', '.join(row.inside)}"
    return text if row.within is None else f"{text}, inside {row.within or 'the model'}"


def _tokens(found: Inspection, width: int) -> list[str]:
    tokens = found.tokens
    rows = {
        "vision": f"{_count(tokens.n_vision)}{_per_image(tokens)}",
        "text": f"{_count(tokens.n_text)}{_padding(tokens)}",
        "prefill": _prefill(found),
        "decode": _decode(found),
    }
    batch = f", {tokens.batch_size} rows together" if tokens.batch_size > 1 else ""
    lines = [f"tokens, as the decoder sees them{batch}"]
    for name, text in rows.items():
        lines += _hanging(text, f"{INDENT}{name:<9}", width)
    return lines


def _count(n_tokens: int | None) -> str:
    return "unknown" if n_tokens is None else str(n_tokens)


def _per_image(tokens: Tokens) -> str:
    if tokens.per_image is None:
        is_all = bool(tokens.n_vision) and sum(tokens.placeholder_runs) == tokens.n_vision
        runs = " + ".join(map(str, tokens.placeholder_runs))
        return f", placeholders in a row: {runs}" if is_all else ""
    if len(tokens.per_image) == 1:
        return ", of one image"
    listed = " + ".join(map(str, tokens.per_image))
    return f": {listed}, of {len(tokens.per_image)} images"


def _padding(tokens: Tokens) -> str:
    return f", and {tokens.n_padding} of padding beside them" if tokens.n_padding else ""


def _prefill(found: Inspection) -> str:
    """Say how the blocks get the prompt: joined with vision, or beside it."""
    tokens = found.tokens
    forwards = plural(tokens.n_prompt_forwards, "forward")
    if tokens.n_block_positions is None:
        return f"{forwards}, the prompt in chunks" if tokens.n_prompt_forwards > 1 else forwards
    text = f"{forwards}, {plural(tokens.n_block_positions, 'position')} into the first block"
    if found.is_encoder_decoder:
        return f"{text}: what the decoder starts with; it attends to an encoder's output"
    if not tokens.n_vision or tokens.n_text is None:
        return text
    n_written = tokens.n_text + (tokens.n_padding or 0)
    if tokens.n_block_positions == tokens.n_vision + n_written:
        return f"{text}: vision and text joined"
    return f"{text}: text alone, which attends to vision from the side"


def _decode(found: Inspection) -> str:
    tokens = found.tokens
    n_out = "tokens that were not returned" if tokens.n_output is None else ""
    out = n_out or f"{plural(tokens.n_output or 0, 'token')} out"
    words = ", ".join(dict.fromkeys((found.mode, *found.labels)))
    steps = f"{plural(tokens.n_decode_steps, 'step')} after the prompt's, {out} ({words})"
    if tokens.accepted_lengths is None:
        return steps
    return f"{steps}; tokens by forward: {', '.join(map(str, tokens.accepted_lengths))}"


def _checks(checks: Sequence[Check], width: int) -> list[str]:
    lines = ["what the model says of itself, against what ran"]
    verdict_width = max(len(check.verdict) for check in checks)
    for check in checks:
        said = "" if check.said is None else f" says {check.said}"
        seen = "" if check.verdict is Verdict.AGREES else f"; {check.seen}"
        start = f"{INDENT}{check.verdict:<{verdict_width}}  "
        lines += _hanging(f"{check.what}{said}{seen}", start, width)
    return lines


def _untold(untold: Sequence[str], width: int) -> list[str]:
    if not untold:
        return []
    return ["could not be told", *_bullets(untold, width), ""]


def _bullets(texts: Iterable[str], width: int) -> list[str]:
    return [line for text in texts for line in _hanging(text, f"{INDENT}- ", width)]


def _hanging(text: str, start: str, width: int) -> list[str]:
    """Return a text after `start`, its further lines as far in."""
    return wrap(
        text,
        width,
        initial_indent=start,
        subsequent_indent=" " * len(start),
        break_long_words=False,
        break_on_hyphens=False,
    )


HEADER = ("module", "parameters", "runs in [role]")
LAST, MORE, OPEN, EMPTY = "└─ ", "├─ ", "│  ", "   "
GAP = "  "
LEAST_NOTE = 22
"""Columns kept for where a module runs, however long its name: a feature method has room."""


def tree_lines(rows: Sequence[ModuleRow], *, width: int) -> list[str]:
    """Return the table: a row's branch and name, its parameters, its phases and roles.

    A row with rows below it shows no phases: they are below. Shared parameters count in each row.
    """
    names = [_branch(rows, index) + _name(row) for index, row in enumerate(rows)]
    counts = [number_of_parameters(row.n_parameters) for row in rows]
    count_width = max(len(HEADER[1]), *map(len, counts))
    room = width - count_width - 2 * len(GAP)
    name_width = min(max(map(len, names)), room - LEAST_NOTE)
    lines = [_line(HEADER[0], HEADER[1], HEADER[2], name_width, count_width)]
    for index in range(len(rows)):
        notes = wrap(_note(rows, index), room - name_width, break_long_words=False) or [""]
        name = _shortened(names[index], name_width)
        lines.append(_line(name, counts[index], notes[0], name_width, count_width))
        below = _below(rows, index)
        lines += [_line(below, "", note, name_width, count_width) for note in notes[1:]]
    return lines


def _line(name: str, count: str, note: str, name_width: int, count_width: int) -> str:
    return f"{name:<{name_width}}{GAP}{count:>{count_width}}{GAP}{note}".rstrip()


def _name(row: ModuleRow) -> str:
    if row.n_modules == 1:
        return row.name
    noun = "blocks" if "blocks" in row.roles else "alike"
    return f"{row.name} ({row.n_modules} {noun})"


def _note(rows: Sequence[ModuleRow], index: int) -> str:
    row = rows[index]
    is_opened = index + 1 < len(rows) and rows[index + 1].depth > row.depth
    phases = "" if is_opened else ", ".join(row.phases) or "not run"
    roles = f"[{', '.join(row.roles)}]" if row.roles else ""
    return f"{phases} {roles}".strip()


def _branch(rows: Sequence[ModuleRow], index: int) -> str:
    """Return the lines that lead from the root to a row."""
    depth = rows[index].depth
    if not depth:
        return ""
    stems = [OPEN if _goes_on(rows, index, level) else EMPTY for level in range(1, depth)]
    return "".join(stems) + (MORE if _goes_on(rows, index, depth) else LAST)


def _below(rows: Sequence[ModuleRow], index: int) -> str:
    """Return the lines that pass beside a row's further notes."""
    depth = rows[index].depth
    stems = [OPEN if _goes_on(rows, index, level) else EMPTY for level in range(1, depth + 1)]
    has_rows = index + 1 < len(rows) and rows[index + 1].depth > depth
    return "".join(stems) + (OPEN if has_rows else "")


def _goes_on(rows: Sequence[ModuleRow], index: int, level: int) -> bool:
    """Whether a later row is at `level`, before one that is further out."""
    for row in rows[index + 1 :]:
        if row.depth <= level:
            return row.depth == level
    return False


def _shortened(name: str, width: int) -> str:
    return name if len(name) <= width else f"{name[: width - 1]}…"
