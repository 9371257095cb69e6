"""What earlier transformers (4.57) do otherwise than the table of modes says of the newest.

Each entry replaces what a mode expects. Vision runs in every step where the newest encodes once,
`cache_position` is out of bounds where the newest takes a part of a prompt, chunks run past the
model's call. Nothing here is measured: it is what measuring is held against, with them installed.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tests.modes.mode import ALL, Mode, Outcome
from tests.zoo.earlier import ENCODES_EACH_STEP, ENCODES_FIRST

_RECOMPUTES = "worked on the pixels again in decode steps"
_NEEDS_PIXELS = "missing 1 required positional argument: 'pixel_values'"
_PAST_THE_CALL = "expected a call for each"
_LEFT_OUT = "pixels were passed, but no module was seen to work on them"
_IN_NO_CHUNK = "Image features and image tokens do not match: tokens: 0"
_OUT_OF_BOUNDS = "is out of bounds for dimension 0"
_STATIC = {"mllama": "index_copy_", "git": "must match the size of tensor"}
_FETCHED = {"failing": {ALL: "has no attribute 'transformers-community/"}}
_WITHOUT_PIXELS = ("text only", "second turn")

EARLIER: Mapping[str, Mapping[str, Any]] = {
    "an assistant": {"failing": {"blip-2": _NEEDS_PIXELS}},
    "an assistant of the same weights": {"failing": {"blip-2": _NEEDS_PIXELS}},
    "the model as its own assistant": {"failing": {"blip-2": _NEEDS_PIXELS}},
    "early exit": {
        "refused": {"qwen2_vl": "the model drafts with itself"},
        "failing": {
            "blip-2": "must match the size of tensor",
            "git": "list index out of range",
            **dict.fromkeys(("llava", "gemma3", "mllama", "florence2"), "has no attribute ''"),
            "idefics3": "has no attribute 'num_hidden_layers'",
        },
    },
    "static cache": {"failing": _STATIC},
    "quantised cache": {
        "failing": {
            ALL: "Unknown quantization backend `fp8`",
            "florence2": "does not support the quantized cache",
        }
    },
    "sliding cache": {"failing": _STATIC},
    "hybrid cache": {"labels": ("static-cache",), "failing": _STATIC},
    "no cache": {
        "refused": dict.fromkeys(("llava", "qwen2_vl", "idefics3", "gemma3", "mllama"), _RECOMPUTES)
    },
    "chunked prefill": {
        "refused": dict.fromkeys(("idefics3", "mllama", "blip-2"), _PAST_THE_CALL),
        "failing": {
            **dict.fromkeys(("llava", "qwen2_vl", "gemma3"), _IN_NO_CHUNK),
            "git": "doesn't match the broadcast shape",
            "florence2": _OUT_OF_BOUNDS,
        },
    },
    "second turn": {"failing": {"blip-2": _NEEDS_PIXELS, "florence2": _OUT_OF_BOUNDS}},
    "second turn, new image": {
        "refused": {ALL: _LEFT_OUT, "git": _RECOMPUTES},
        "failing": {
            "mllama": _OUT_OF_BOUNDS,
            "florence2": _OUT_OF_BOUNDS,
            "blip-2": "Number of elements of source",
        },
    },
    "embeddings": {
        "failing": {
            "git": "doesn't have its forwarding implemented",
            "florence2": "the number of sizes provided",
        }
    },
    "guidance": {"failing": {"qwen2_vl": "Expected size for first two dimensions"}},
    "contrastive search": _FETCHED,
    "DoLa": _FETCHED,
    "group beams": _FETCHED,
    "forced words": _FETCHED,
}


def as_installed(mode: Mode) -> Mode:
    """Return a mode as the installed transformers has it."""
    if ENCODES_FIRST:
        return mode
    mode = replace(mode, **EARLIER.get(mode.name, {}))
    again = {} if mode.name in _WITHOUT_PIXELS else dict.fromkeys(ENCODES_EACH_STEP, _RECOMPUTES)
    measured = {name: why for name, why in again.items() if mode.expects(name)[0] is Outcome.RIGHT}
    return replace(mode, refused={**mode.refused, **measured})
