"""The two definitions of decode per token, drawn over the output's length as an SVG. Pure.

Written by hand, not by a plotting library: the file stays small, and the same figures give the same
bytes everywhere, so that it can be checked.
"""

from __future__ import annotations

from collections.abc import Sequence

WIDTH, HEIGHT = 640, 360
LEFT, RIGHT, TOP, BOTTOM = 60, 20, 30, 50  # margins around what is drawn
TOKENS_TICK, MS_TICK = 4, 1.0
COLOURS = ("#c0392b", "#1f6fb2")

Points = Sequence[tuple[int, float]]


def decode_figure(per_token_ms: Points, per_step_ms: Points) -> str:
    """Return the figure: a line for each definition, of (output tokens, ms) in any order."""
    lines = {"T / N": sorted(per_token_ms), "T / (N - 1)": sorted(per_step_ms)}
    longest = max(n for points in lines.values() for n, _ in points)
    most_ms = 1.15 * max(ms for points in lines.values() for _, ms in points)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="13">',
        "<title>Decode per output token and per decode step, by output length</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        *_axes(longest, most_ms),
    ]
    for index, (name, points) in enumerate(lines.items()):
        places = [_place(n, ms, longest, most_ms) for n, ms in points]
        parts += _line(name, places, COLOURS[index])
        x, y = places[-1]
        parts.append(_text(x, y + (20 if index == 0 else -10), name, "end", COLOURS[index]))
    return "\n".join([*parts, "</svg>"]) + "\n"


def _place(n_tokens: float, ms: float, longest: int, most_ms: float) -> tuple[float, float]:
    across = (WIDTH - LEFT - RIGHT) * n_tokens / longest
    up = (HEIGHT - TOP - BOTTOM) * ms / most_ms
    return LEFT + across, HEIGHT - BOTTOM - up


def _axes(longest: int, most_ms: float) -> list[str]:
    left, bottom = LEFT, HEIGHT - BOTTOM
    parts = [
        f'<path d="M{left},{TOP} V{bottom} H{WIDTH - RIGHT}" fill="none" stroke="black"/>',
        _text(WIDTH / 2, HEIGHT - 12, "output tokens, N"),
        _text(left, TOP - 12, "decode, ms (median)", "start"),
    ]
    for n_tokens in range(0, longest + 1, TOKENS_TICK):
        x, _ = _place(n_tokens, 0, longest, most_ms)
        parts.append(_text(x, bottom + 18, str(n_tokens)))
    for tick in range(int(most_ms / MS_TICK) + 1):
        _, y = _place(0, tick * MS_TICK, longest, most_ms)
        parts.append(_text(left - 6, y + 4, f"{tick * MS_TICK:g}", "end"))
    return parts


def _line(name: str, places: Sequence[tuple[float, float]], colour: str) -> list[str]:
    corners = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    dots = [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in places]
    line = f'<polyline points="{corners}" fill="none" stroke="{colour}" stroke-width="2">'
    return [f"{line}<title>{name}</title></polyline>", *dots]


def _text(x: float, y: float, text: str, anchor: str = "middle", colour: str = "black") -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{colour}">{text}</text>'
