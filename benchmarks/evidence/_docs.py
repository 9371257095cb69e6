"""The parts of a document that a script fills, between a pair of markers. Pure."""

from __future__ import annotations

import re

END = "<!-- /evidence -->"
BLOCK = re.compile(r"<!-- evidence:(?P<name>\w+) -->\n(?P<text>.*?)\n" + re.escape(END), re.DOTALL)


def blocks(document: str) -> dict[str, str]:
    """Return the text between each pair of markers, by name."""
    return {found["name"]: found["text"] for found in BLOCK.finditer(document)}


def filled(document: str, name: str, text: str) -> str:
    """Return the document with one block replaced; it must be there once."""
    names = [found["name"] for found in BLOCK.finditer(document)]
    if names.count(name) != 1:
        raise ValueError(
            f"the document has {names.count(name)} blocks '<!-- evidence:{name} -->' that end "
            f"with '{END}'; expected one. It has blocks for {', '.join(names) or 'nothing'}"
        )
    return BLOCK.sub(
        lambda found: (
            f"<!-- evidence:{name} -->\n{text}\n{END}" if found["name"] == name else found[0]
        ),
        document,
    )
