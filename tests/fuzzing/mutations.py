"""What is done to a file: one change of its bytes, or of what its JSON says, by a seeded generator.

One change only: two that match, such as of a value and of its digest, are a forgery and no damage.
"""

from __future__ import annotations

import copy
import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

RAW = "@raw@"  # stands in a value for a text that json.dumps would not write
HUGE_TEXT = "x" * 2**20
ODD: tuple[Any, ...] = (
    None,
    True,
    False,
    0,
    -1,
    1,
    2**63,
    10**30,
    -0.0,
    1e-320,
    1e300,
    *(RAW + raw for raw in ("1e999", "NaN", "-Infinity", "1" + "0" * 400, "9" * 5000)),
    "",
    "0",
    "12.5",
    "none",
    "\ud800",
    "\x00",
    "é\u202e\x1b[31m\n::error::x",
    "../../outside",
    "/tmp/vlm-fuzzed-outside",
    "a/b",
    "..",
    HUGE_TEXT,
    [],
    {},
    [[]],
    {"a": 1},
    ["a", 1, None],
    RAW + "[" * 3000 + "]" * 3000,
    RAW + '{"a":' * 3000 + "1" + "}" * 3000,
)
KEYS = ("", "id", "__class__", "../x", "\ud800", "digest", "wall_ms", "total")
Path = tuple[Any, ...]
Mutate = "Callable[[Random, bytes], bytes]"


def mutated_bytes(random: Random, content: bytes) -> bytes:
    """Return the content with one change of its bytes."""
    return random.choice(_OF_BYTES)(random, content)


def mutated_json(random: Random, content: bytes) -> bytes:
    """Return a JSON file with one change of what it says; at times, of its bytes."""
    if random.random() < 0.3:
        return mutated_bytes(random, content)
    plain = json.loads(content)
    return _dumped(random, _changed(random, plain))


def mutated_lines(random: Random, content: bytes) -> bytes:
    """Return JSON Lines with one change: of a line, of the lines, or of the bytes."""
    if random.random() < 0.2:
        return mutated_bytes(random, content)
    lines = content.splitlines()
    at = random.randrange(len(lines))
    what = random.random()
    if what < 0.7:
        lines[at] = _dumped(random, _changed(random, json.loads(lines[at])))
    elif what < 0.8:
        del lines[at]
    elif what < 0.9:
        lines.insert(random.randrange(len(lines)), lines[at])
    else:
        lines[at] = lines[at] + lines[random.randrange(len(lines))]
    return b"\n".join(lines) + b"\n"


def mutated_text(random: Random, content: bytes) -> bytes:
    """Return the text of a setting, or another one."""
    odd = [one.removeprefix(RAW) for one in ODD if isinstance(one, str)]
    if random.random() < 0.5:
        return random.choice(odd).encode("utf-8", "surrogatepass")
    return mutated_bytes(random, content)


def _flip(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]


def _digit(random: Random, content: bytes) -> bytes:
    """Change a digit: what is whole JSON stays whole, with another number."""
    at = random.choice([found.start() for found in re.finditer(rb"[0-9]", content)] or [0])
    return content[:at] + str(random.randrange(10)).encode() + content[at + 1 :]


def _cut(random: Random, content: bytes) -> bytes:
    return content[: random.randrange(len(content))]


def _without(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + content[at + random.randrange(1, 40) :]


def _with_more(random: Random, content: bytes) -> bytes:
    at = random.randrange(len(content))
    return content[:at] + random.randbytes(random.randrange(1, 40)) + content[at:]


def _zeros(random: Random, content: bytes) -> bytes:
    at, size = random.randrange(len(content)), random.choice([4, 64, 512])
    return content[:at] + bytes(len(content[at : at + size])) + content[at + size :]


def _twice(random: Random, content: bytes) -> bytes:
    at, size = random.randrange(len(content)), random.randrange(1, 200)
    return content[: at + size] + content[at : at + size] + content[at + size :]


def _otherwise_encoded(random: Random, content: bytes) -> bytes:
    text = content.decode("latin-1")
    others = (b"", b"\xef\xbb\xbf" + content, b"\n\n", b"\0")
    return random.choice([*others, text.encode("utf-16"), text.encode("utf-32")])


_OF_BYTES = (_flip, _digit, _cut, _without, _with_more, _zeros, _twice, _otherwise_encoded)


def _changed(random: Random, plain: Any) -> Any:
    """Return JSON values with one change at a random place."""
    plain = copy.deepcopy(plain)
    places = list(_places(plain))
    if not places:
        return random.choice(ODD)
    holder, key = random.choice(places)
    change = random.choice(_OF_VALUES)
    change(random, holder, key, places)
    return plain


def _places(plain: Any) -> list[tuple[Any, Any]]:
    """Return every place of a value, as what holds it and its key there."""
    found = []
    waiting = [plain]
    while waiting:
        holder = waiting.pop()
        keys = list(holder) if isinstance(holder, dict) else range(len(holder))
        found += [(holder, key) for key in keys]
        waiting += [holder[key] for key in keys if isinstance(holder[key], dict | list)]
    return found


def _replaced(random: Random, holder: Any, key: Any, _places: Any) -> None:
    holder[key] = random.choice(ODD)


def _scaled(random: Random, holder: Any, key: Any, places: Any) -> None:
    """Change a number by a little or a lot; where there is none, another place is taken."""
    numbers = [(h, k) for h, k in places if type(h[k]) in (int, float)]
    if numbers:
        holder, key = random.choice(numbers)
        value = holder[key]
        holder[key] = random.choice([value + 1, value * 2, value * (1 + 1e-9), -value, value / 3])
    else:
        holder[key] = 7


def _removed(_random: Random, holder: Any, key: Any, _places: Any) -> None:
    del holder[key]


def _renamed(random: Random, holder: Any, key: Any, _places: Any) -> None:
    if isinstance(holder, dict):
        holder[random.choice((*KEYS, f"{key}x"))] = holder.pop(key)
    else:
        holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[key]))


def _said_twice(random: Random, holder: Any, key: Any, _places: Any) -> None:
    """Say a key twice with two values: which one is meant, no reader can know."""
    if isinstance(holder, dict):
        holder[f"{RAW}{key}"] = random.choice(ODD[:10])
    else:
        holder.append(copy.deepcopy(holder[key]))


def _swapped(random: Random, holder: Any, key: Any, places: Any) -> None:
    other, at = random.choice(places)
    if not isinstance(holder[key], dict | list) and not isinstance(other[at], dict | list):
        holder[key], other[at] = other[at], holder[key]
    else:
        holder[key] = [holder[key]]


def _as_text(_random: Random, holder: Any, key: Any, _places: Any) -> None:
    holder[key] = json.dumps(holder[key])


_OF_VALUES: tuple[Callable[[Random, Any, Any, Any], None], ...] = (
    _replaced,
    _replaced,
    _replaced,
    _scaled,
    _scaled,
    _removed,
    _renamed,
    _said_twice,
    _swapped,
    _as_text,
)


def _dumped(random: Random, plain: Any) -> bytes:
    """Return JSON text, with what stands for raw text replaced by it."""
    text = json.dumps(plain, indent=random.choice([None, None, 1]))
    text = re.sub(rf'"{RAW}((?:[^"\\]|\\.)*)":', r'"\1":', text)  # a key that stands twice
    text = re.sub(rf'"{RAW}((?:[^"\\]|\\.)*)"', lambda found: json.loads(f'"{found[1]}"'), text)
    return text.encode()
