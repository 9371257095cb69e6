"""Which accelerator this process can use, the same for every torch from 2.6 on."""

from __future__ import annotations

import torch


def visible_accelerator() -> torch.device | None:
    """Return the accelerator that torch was built for, None where it sees none.

    Asked in two steps: torch 2.6 cannot check for one while it names it.
    """
    if not torch.accelerator.is_available():
        return None
    return torch.accelerator.current_accelerator()
