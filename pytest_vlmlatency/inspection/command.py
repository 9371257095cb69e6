"""`vlmlatency inspect`: its options and their help, and what it prints.

Imports nothing heavy until it runs.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_vlmlatency.commands import file_to_write, warn_of_versions
from pytest_vlmlatency.errors import PhasesNotFound, VlmLatencyError
from pytest_vlmlatency.inspection.findings import Refusal, Refused
from pytest_vlmlatency.inspection.request import (
    DEFAULT_NEW_TOKENS,
    DEFAULT_PROMPT,
    Loading,
    Request,
    parse_phases,
)
from pytest_vlmlatency.printing import tell_json

if TYPE_CHECKING:
    import argparse

NAME = "inspect"
SUMMARY = "show where a model's phases are, from one call of it"
DESCRIPTION = """\
Call a model's generate() a few times and show where its phases are: which
modules are vision, text encoder and decoder blocks, which call is which phase,
where vision runs, and how many tokens each phase has. What a measurement would
refuse is refused here, by the same error.

MODEL is one of
  dummy:NAME         a known shape with random weights, e.g. dummy:llava-tiny
  owner/name         a model of the Hugging Face hub
  path/to/folder     what save_pretrained wrote, with its processor
  path.py:function   a function of yours, called without arguments, that
                     returns (model, inputs) or (model.generate, kwargs)
"""
EXAMPLES = """\
examples:
  vlmlatency inspect dummy:molmoe-nano
      the phase map of a small MolmoE-shaped model, on a bundled photograph

  vlmlatency inspect HuggingFaceTB/SmolVLM-256M-Instruct --device cuda
      a model of the hub, where you will measure it

  vlmlatency inspect my_model.py:build
      a model of your own; my_model.py holds
          def build():
              model, processor = ...
              inputs = processor(images=..., text=..., return_tensors="pt")
              return model, inputs

  vlmlatency inspect my_model.py:build --phase vision=encoder,projector
      try phases named by hand, before they go into a test as
      phases={"vision": ["encoder", "projector"]}

  vlmlatency inspect dummy:llava-tiny --trace call.json --trace-blocks
      one measured call, for https://ui.perfetto.dev (drop the file there)

  vlmlatency inspect dummy:llava-tiny --json | jq .tokens
      the same for programs
"""
TRY_HERE = "Try names here first: --phase vision=PATH,PATH --phase blocks=PATH --phase step=PATH"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("model", metavar="MODEL", help="what to inspect, see above")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead")
    call = parser.add_argument_group("the call")
    call.add_argument(
        "--image",
        metavar="FILE",
        type=Path,
        action="append",
        help="a picture; may be given several times (default: a bundled photograph)",
    )
    call.add_argument("--prompt", metavar="TEXT", help=f"default: {DEFAULT_PROMPT!r}")
    call.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=int,
        help=f"default: {DEFAULT_NEW_TOKENS}; a function's (model.generate, kwargs) has its own",
    )
    call.add_argument(
        "--phase",
        metavar="NAME=PATHS",
        action="append",
        default=[],
        help="name a phase by hand: vision, blocks or step, with module paths set apart by commas",
    )
    _add_loading(parser.add_argument_group("loading, not for path.py:function"))
    _add_trace(parser.add_argument_group("a trace of one call"))


def _add_loading(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--device", metavar="DEVICE", help="cpu (default), cuda, cuda:1, mps, xpu")
    group.add_argument("--dtype", metavar="DTYPE", help="float32, float16, bfloat16; default: auto")
    group.add_argument("--attn", metavar="NAME", help="eager, sdpa, flash_attention_2, ...")
    group.add_argument(
        "--trust-remote-code",
        action="store_true",
        default=None,
        help="run the code that comes with the model",
    )


def _add_trace(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--trace",
        metavar="FILE",
        type=file_to_write,
        help="write one measured call's phases as a Chrome trace, which Perfetto opens",
    )
    group.add_argument(
        "--trace-blocks",
        action="store_true",
        help="each decoder block too; hooks around every block slow the call",
    )
    group.add_argument("--trace-tokens", action="store_true", help="each decode step too")
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="pinned threads of a model on the CPU; 0 leaves them alone (default: 1 for a trace, "
        "as when measuring, else 0)",
    )


def run(given: argparse.Namespace) -> int:
    """Inspect what was asked for and print it; return the exit status."""
    try:
        request = _request(given)  # a wrong one is refused before torch loads
        warn_of_versions()
        from pytest_vlmlatency.inspection import output  # noqa: PLC0415

        look = output.looked(request)
    except VlmLatencyError as problem:
        if given.json:
            _print_refusal(given.model, problem)
        if isinstance(problem, PhasesNotFound):
            problem.add_note(TRY_HERE)
        raise
    if given.json:
        output.print_json(look)
    else:
        output.print_page(look)
    if request.trace is not None:
        output.write_trace(look, request, to_stderr=given.json)
    return 0


def _print_refusal(source: str, problem: VlmLatencyError) -> None:
    error = Refusal(kind=type(problem).__name__, message=str(problem))
    refused = asdict(Refused(source=source, error=error))
    tell_json(refused)


def _request(given: argparse.Namespace) -> Request:
    return Request(
        source=given.model,
        loading=Loading(
            device=given.device,
            dtype=given.dtype,
            attn=given.attn,
            trust_remote_code=given.trust_remote_code,
            images=given.image,
            prompt=given.prompt,
        ),
        max_new_tokens=given.max_new_tokens,
        phases=parse_phases(given.phase),
        threads=given.threads,
        trace=given.trace,
        has_trace_blocks=given.trace_blocks,
        has_trace_tokens=given.trace_tokens,
    )
