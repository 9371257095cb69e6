"""The ways to call generate(), as data: each with what it asks for, and what must come of it.

`MODES` times `FAMILIES` is a table. `judge` fills one cell of it by running.
"""

import torch

from tests.modes import calls, prompts
from tests.modes.calls import with_settings, within
from tests.modes.earlier import as_installed
from tests.modes.mode import ALL, Asked, Mode, Outcome
from tests.modes.verdict import Verdict, judge

__all__ = ["ALL", "FAMILIES", "MODES", "Asked", "Mode", "Outcome", "Verdict", "judge"]

FAMILIES = (
    "llava",
    "qwen2_vl",
    "idefics3",
    "gemma3",
    "molmo2",
    "mllama",
    "blip-2",
    "git",
    "florence2",
)
"""Wired differently: vision before the loop, in the first forward, or in an encoder; one generate()
or one inside another; placeholders, joined features, or cross-attention; sliding layers."""

_RECOMPUTES = "worked on the pixels again in decode steps"
_NEEDS_PIXELS = "missing 1 required positional argument: 'pixel_values'"
_MOVED = "requires `trust_remote_code=True`"
_NO_EMBEDS = "doesn't have its forwarding implemented"
_NO_CUDA = "CUDA or create a new Stream"  # torch has none of it, or no driver: after a compilation
_GIT_AND_STATIC = {"git": "Tensors must have same number of dimensions"}

_OF_THE_NEWEST = (
    Mode(name="greedy", ask=with_settings()),
    Mode(
        name="text only",
        ask=prompts.without_an_image,
        labels=("text-only",),
        failing={"blip-2": _NEEDS_PIXELS},
    ),
    Mode(name="one token", ask=with_settings(max_new_tokens=1), n_tokens=1),
    Mode(name="two rows", ask=prompts.two_rows),
    Mode(name="two padded rows, one ends early", ask=prompts.two_rows_of_which_one_ends_early),
    Mode(
        name="two images",
        ask=prompts.two_images,
        failing={"git": "Sizes of tensors must match"},
    ),
    Mode(name="sampling", ask=with_settings(do_sample=True), labels=("sample",)),
    Mode(
        name="two sequences",
        ask=calls.sequences(2, do_sample=True),
        labels=("sample", "2-sequences"),
    ),
    Mode(name="beams", ask=with_settings(num_beams=3), labels=("beam",)),
    Mode(
        name="two of three beams",
        ask=calls.sequences(2, num_beams=3),
        labels=("beam", "2-sequences"),
    ),
    Mode(
        name="beam sampling",
        ask=with_settings(num_beams=3, do_sample=True),
        labels=("beam", "sample"),
    ),
    Mode(name="prompt lookup", ask=calls.looked_up, labels=("assisted",)),
    Mode(
        name="an assistant",
        ask=calls.with_an_assistant(seed=1),
        labels=("assisted",),
        failing={"mllama": "must match the size of tensor", "blip-2": _NEEDS_PIXELS},
    ),
    Mode(
        name="an assistant of the same weights",
        ask=calls.with_an_assistant(seed=0),
        labels=("assisted",),
        failing={"mllama": "must match the size of tensor", "blip-2": _NEEDS_PIXELS},
    ),
    Mode(
        name="the model as its own assistant",
        ask=calls.with_itself,
        refused={ALL: "the model drafts with itself"},
        failing={"mllama": "must match the size of tensor", "blip-2": _NEEDS_PIXELS},
    ),
    Mode(
        name="early exit",
        ask=calls.by_early_exit,
        failing={
            ALL: "object has no attribute 'num_hidden_layers'",
            "blip-2": "list index out of range",
            "git": "list index out of range",
        },
    ),
    Mode(
        name="static cache",
        ask=with_settings(cache_implementation="static"),
        labels=("static-cache",),
        failing=_GIT_AND_STATIC,
    ),
    Mode(
        name="quantised cache",
        ask=calls.with_a_quantised_cache,
        labels=("quantized-cache",),
        failing={
            "gemma3": "only supported for models with only full attention layers",
            "florence2": "does not support the quantized cache",
        },
    ),
    Mode(
        name="offloaded cache",
        ask=with_settings(cache_implementation="offloaded"),
        labels=("offloaded-dynamic-cache",),
        failing={ALL: _NO_CUDA},
    ),
    Mode(
        name="sliding cache",
        ask=with_settings(cache_implementation="sliding_window"),
        labels=("static-cache",),
        failing=_GIT_AND_STATIC,
    ),
    Mode(name="hybrid cache", ask=with_settings(cache_implementation="hybrid")),
    Mode(
        name="no cache",
        ask=with_settings(use_cache=False),
        labels=("no-cache",),
        labels_of={"blip-2": ()},  # its generate() leaves the argument out
        refused={"mllama": _RECOMPUTES, "git": _RECOMPUTES},
    ),
    Mode(
        name="chunked prefill",
        ask=calls.in_chunks,
        labels=("chunked",),
        labels_of={"florence2": ()},
        failing={
            "mllama": "Chunked prefill cannot split",
            "git": "Chunked prefill cannot split",
            "blip-2": "must match the size of tensor",
        },
    ),
    Mode(name="streamer", ask=calls.streamed, labels=("streamed",)),
    Mode(name="streamer on a thread", ask=calls.on_a_thread, labels=("streamed",)),
    Mode(
        name="custom generate",
        ask=with_settings(custom_generate=calls.custom_loop),
        labels=("custom",),
    ),
    Mode(name="inference_mode", ask=within(torch.inference_mode)),
    Mode(
        name="autocast",
        ask=within(lambda: torch.autocast("cpu", torch.bfloat16)),
        labels=("autocast-bfloat16",),
    ),
    Mode(name="bfloat16", ask=calls.in_half_precision(torch.bfloat16)),
    Mode(name="float16", ask=calls.in_half_precision(torch.float16)),
    Mode(
        name="second turn",
        ask=prompts.second_turn,
        labels=("continued",),
        failing={"blip-2": _NEEDS_PIXELS},
    ),
    Mode(
        name="second turn, new image",
        ask=prompts.second_turn_with_an_image,
        labels=("continued",),
        refused={"blip-2": "cuts through"},
        failing={"mllama": "must match the size of tensor"},
    ),
    Mode(name="output fed back", ask=prompts.continued),
    Mode(
        name="embeddings",
        ask=prompts.embeddings,
        labels=("embeds",),
        failing={"gemma3": _NO_EMBEDS, "florence2": "Image features and image tokens do not match"},
    ),
    Mode(
        name="guidance",
        ask=with_settings(guidance_scale=2.0),
        labels=("guided",),
        failing={"qwen2_vl": "shapes cannot be multiplied"},
    ),
    Mode(
        name="contrastive search",
        ask=with_settings(penalty_alpha=0.5, top_k=3),
        failing={ALL: _MOVED},
    ),
    Mode(name="DoLa", ask=with_settings(dola_layers="low"), failing={ALL: _MOVED}),
    Mode(
        name="group beams",
        ask=with_settings(num_beams=4, num_beam_groups=2, diversity_penalty=0.5),
        failing={ALL: _MOVED},
    ),
    Mode(
        name="forced words",
        ask=with_settings(num_beams=2, force_words_ids=[[5]]),
        failing={ALL: _MOVED},
    ),
    Mode(name="stopping criterion", ask=calls.after(3), n_tokens=3),
    Mode(name="time limit", ask=with_settings(max_time=3600.0)),
    Mode(name="logits processor", ask=with_settings(logits_processor=[calls.around_and_around])),
    Mode(name="generation_config", ask=calls.by_a_configuration, labels=("sample",)),
    Mode(
        name="scores, logits, states",
        ask=with_settings(
            return_dict_in_generate=True,
            output_scores=True,
            output_logits=True,
            output_hidden_states=True,
        ),
        labels=("outputs",),
    ),
    Mode(
        name="attentions",
        ask=with_settings(return_dict_in_generate=True, output_attentions=True),
        labels=("outputs",),
    ),
)
MODES = tuple(as_installed(mode) for mode in _OF_THE_NEWEST)
