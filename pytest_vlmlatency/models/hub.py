"""Whether the model hub answers, asked once and with a short limit, and what its cache holds.

transformers repeats a failed request for some 25 seconds before it looks into its cache. Owns the
questions only; `load` decides what follows from the answers.
"""

from __future__ import annotations

from importlib import import_module

import huggingface_hub.utils
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

TIMEOUT_S = 10.0


def hub_answers(name: str) -> bool:
    """Return whether the hub can be asked about a model, also when it refuses or has none."""
    no_answer: tuple[type[Exception], ...] = (OfflineModeIsEnabled, *silences())
    try:
        HfApi().model_info(name, timeout=TIMEOUT_S)
    except HfHubHTTPError:
        return True  # what it said is repeated, with advice, when the model is loaded
    except no_answer:
        return False
    return True


def cached_folder(name: str) -> str:
    """Return where the cache holds a model's files, without asking the hub.

    Raises:
        LocalEntryNotFoundError: if it holds none.

    """
    return snapshot_download(name, local_files_only=True)


def silences() -> tuple[type[Exception], ...]:
    """Return the exceptions by which huggingface_hub's own client says that nothing answered."""
    client = getattr(huggingface_hub.utils, "httpx", None)
    if client is not None:
        return client.ConnectError, client.TimeoutException
    client = import_module("requests")  # the one before it, which later ones do not install
    return client.ConnectionError, client.Timeout
