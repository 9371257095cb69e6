"""Whether the model hub answers, asked once and with a short limit.

transformers repeats a failed request for some 25 seconds before it looks into its cache. Owns the
question only; `load` decides what follows from the answer.
"""

from __future__ import annotations

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # the client it uses itself

TIMEOUT_S = 10.0


def hub_answers(name: str) -> bool:
    """Return whether the hub can be asked about a model, also when it refuses or has none."""
    try:
        HfApi().model_info(name, timeout=TIMEOUT_S)
    except HfHubHTTPError:
        return True  # what it said is repeated, with advice, when the model is loaded
    except (OfflineModeIsEnabled, httpx.ConnectError, httpx.TimeoutException):
        return False
    return True
