"""The options that say how, where and which model is measured: a table, and nothing more."""

from __future__ import annotations

from pytest_vlmlatency.session.option_values import (
    Setting,
    at_least,
    device,
    dtype,
    new_file,
    seconds,
)

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "--vlm-rounds",
        "N",
        at_least(1),
        "int",
        "Keep exactly N rounds of each case. Default: repeat until the noise is low or has "
        "stopped falling, or the time limit is reached.",
    ),
    Setting(
        "--vlm-warmup-rounds",
        "N",
        at_least(0),
        "int",
        "Run each case N times before it is measured, at its full shape. Default: 2.",
    ),
    Setting(
        "--vlm-max-time",
        "SECONDS",
        seconds,
        "float",
        "Begin no further round of a case after this time, unless --vlm-rounds asks for more. "
        "Default: 20.",
    ),
    Setting(
        "--vlm-per-token",
        None,
        None,
        "bool",
        "Time every decode step too: a mode for finding a slow step. It costs a little itself, so "
        "its cases are marked.",
    ),
    Setting(
        "--vlm-threads",
        "N",
        at_least(0),
        "int",
        "CPU threads while a model on the CPU is measured, pinned to as many cores. 0 leaves "
        "threads and cores as they are. Default: 1, which has the least noise; where something is "
        "compiled, as many as torch has, since it would be compiled again for another number.",
    ),
    Setting(
        "--vlm-device",
        "DEVICE",
        device,
        "string",
        "Measure on this device: cpu, cuda, cuda:1, xpu, mps. --vlm-model is placed there; a model "
        "of your own that lives elsewhere is an error. Default: --vlm-model on the CPU, your own "
        "model wherever it is.",
    ),
    Setting(
        "--vlm-model",
        "MODEL",
        None,
        "string",
        "What the vlm_model fixture loads: a hub id, a folder written by save_pretrained(), or "
        "dummy:NAME, a real shape with random weights.",
    ),
    Setting(
        "--vlm-dtype",
        "DTYPE",
        dtype,
        "string",
        "The dtype of --vlm-model: auto (as it was saved), float32, float16 or bfloat16. "
        "Default: auto.",
    ),
    Setting(
        "--vlm-attn",
        "NAME",
        None,
        "string",
        "The attention implementation of --vlm-model, as transformers names them: eager, sdpa, "
        "flash_attention_2 and others. Default: the model's own choice.",
    ),
    Setting(
        "--vlm-compile",
        None,
        None,
        "bool",
        "Compile each decoder block of --vlm-model with torch.compile().",
    ),
    Setting(
        "--vlm-trust-remote-code",
        None,
        None,
        None,
        "Let --vlm-model run code that comes with it. Command line only: it is your machine.",
    ),
    Setting(
        "--vlm-json",
        "FILE",
        new_file,
        None,
        "Write the whole run to FILE: every call with its phases, the machine, the commit.",
    ),
)
