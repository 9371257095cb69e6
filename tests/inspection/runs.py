"""What one run of the command left behind."""

import json
from typing import Any, NamedTuple


class Run(NamedTuple):
    """The exit status and what was printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        """The one JSON object that was printed."""
        found: dict[str, Any] = json.loads(self.out)
        return found
