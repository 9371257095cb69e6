"""`vlmlatency profile`: its options and help. Imports nothing heavy until it runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_vlmlatency.commands import warn_of_versions
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.printing import tell, warn
from pytest_vlmlatency.signals import interruption, status_of

NAME = "profile"
SUMMARY = "measure a model on a data set under many configurations, as records"
DESCRIPTION = """\
Measure a model's generate() on every sample of a data set, under every
configuration, and write a training record for each call. The configurations
take turns, sample by sample: machines drift, and in sequence the last one would
look slower for what happened meanwhile.

Records are appended as they are measured, to
  DIR/<dataset>/<configuration>.jsonl
The same command goes on where it was stopped, however it was: at most the
sample under way is lost. What the measuring engine refuses is counted and
named, never written, and tried again the next time.

--dataset is
  a file of JSON Lines  {"image": "a.jpg", "prompt": "What is this?"}: the image
                        a path beside the file, or a list of several; and if you
                        like an "id" and "max_new_tokens" of its own
  a folder of images    all with the prompt that --prompt gives
  a folder of Hugging Face datasets, as save_to_disk writes it: the columns are
                        --image-column and --prompt-column; needs the package
                        `datasets`

--configs is a JSON file: a list of configurations,
  [{"tier": "low", "top_k": 4, "num_active_blocks": 8}, ...]
or a grid, of which every combination is measured,
  {"tier": ["low", "high"], "top_k": [4, 8, 12], "num_active_blocks": [8, 16]}
They are the knobs of a MolmoE-shaped model. For a model of your own, name a
class that takes your knobs: --configuration path.py:Class, with
  values()          the configured values, by knob
  apply(model)      a context manager that sets the knobs, and undoes it
  read_back(model)  the knobs of the parts that will run
Without --configs, any model is measured as it is.

--model path.py:function takes what a function of yours returns without
arguments: (model, prepare), (model.generate, prepare) or (model, processor);
prepare(images, prompt) returns the arguments of generate() for a sample.
"""
EXAMPLES = """\
examples:
  vlmlatency profile --model dummy:molmoe-nano --dataset questions.jsonl \\
      --configs grid.json --to profiled/
  vlmlatency profile --model HuggingFaceTB/SmolVLM-256M-Instruct --device cuda \\
      --dataset photos/ --prompt "What is this?" --to profiled/
  vlmlatency profile --model mine.py:build --dataset photos/ --prompt "What?" \\
      --configs grid.json --configuration mine.py:Knobs --to profiled/
  vlmlatency export profiled/ --to records/     the legacy layout, or one file

exit status: 0 all measured, 1 some refused, 2 usage error, 130 stopped
"""
DEFAULT_NEW_TOKENS = 16


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument(
        "--model",
        metavar="MODEL",
        required=True,
        help="dummy:NAME, a hub id, a folder or path.py:function",
    )
    parser.add_argument("--to", metavar="DIR", type=Path, required=True, help="where records go")
    data = parser.add_argument_group("the data set")
    data.add_argument("--dataset", metavar="FILE", type=Path, required=True, help="see above")
    data.add_argument("--name", metavar="NAME", help="what it is called (default: its file's name)")
    data.add_argument("--prompt", metavar="TEXT", help="the prompt of a folder of images")
    data.add_argument("--image-column", metavar="NAME", default="image", help="default: image")
    data.add_argument("--prompt-column", metavar="NAME", default="prompt", help="default: prompt")
    data.add_argument("--split", metavar="NAME", help="the split of a folder of datasets")
    data.add_argument("--limit", metavar="N", type=_count, help="only the first N samples")
    _add_measuring(parser.add_argument_group("the measurement"))
    loading = parser.add_argument_group("loading")
    loading.add_argument("--device", metavar="DEVICE", help="default: cpu")
    loading.add_argument("--dtype", metavar="DTYPE", help="default: auto")
    loading.add_argument("--attn", metavar="NAME", help="eager, sdpa, flash_attention_2, ...")
    loading.add_argument(
        "--trust-remote-code", action="store_true", help="run the code that comes with the model"
    )


def _add_measuring(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--configs", metavar="FILE", type=Path, help="see above")
    group.add_argument(
        "--configuration",
        metavar="PATH.py:CLASS",
        help="what makes the configurations of --configs (default: a MolmoE-shaped model's knobs)",
    )
    group.add_argument(
        "--max-new-tokens",
        metavar="N",
        type=_count,
        default=DEFAULT_NEW_TOKENS,
        help=f"for samples that do not say (default: {DEFAULT_NEW_TOKENS})",
    )
    group.add_argument(
        "--rounds", metavar="N", type=_count, default=1, help="calls of each kind (default: 1)"
    )
    group.add_argument(
        "--measure",
        choices=("wall", "cpu"),
        default="wall",
        help="wall time (default), or CPU time of a model on the CPU",
    )
    group.add_argument(
        "--threads",
        metavar="N",
        type=int,
        help="pinned threads on the CPU (default: 1, or torch's if compiled; 0: leave)",
    )


def run(given: argparse.Namespace) -> int:
    """Profile what was asked for, and say what came out; 1 if something was refused."""
    from pytest_vlmlatency.profiling.configurations import read_configurations  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.profiling.dataset import Columns, open_dataset  # noqa: PLC0415
    from pytest_vlmlatency.profiling.sweep import Plan, sweep  # noqa: PLC0415

    _check_loading(given)
    configurations = read_configurations(
        given.configs, source=given.configuration
    )  # a wrong file is refused before loading
    warn_of_versions()
    dataset = open_dataset(
        given.dataset,
        name=given.name,
        prompt=given.prompt,
        columns=Columns(image=given.image_column, prompt=given.prompt_column, split=given.split),
        limit=given.limit,
    )
    plan = Plan(
        model=given.model,
        configurations=configurations,
        n_new_tokens=given.max_new_tokens,
        rounds=given.rounds,
        measure=f"{given.measure}_ms",
        threads=given.threads,
        device=given.device or "cpu",
        dtype=given.dtype or "auto",
        attn=given.attn,
        is_trusted=given.trust_remote_code,
    )
    try:
        done = sweep(plan, dataset, given.to)
    except KeyboardInterrupt as end:
        warn("", f"stopped by {interruption(end)}; the same command goes on where it was")
        return status_of(end)
    tell(
        f"{given.to}: {done.n_new:,} records written, {done.n_before:,} were there, "
        f"{done.n_refused:,} calls refused"
    )
    return 1 if done.n_refused else 0


def _check_loading(given: argparse.Namespace) -> None:
    """Refuse options of a model that is loaded here, where a user's function makes its own."""
    from pytest_vlmlatency.inspection.request import Loading  # noqa: PLC0415 - light --help
    from pytest_vlmlatency.inspection.user_function import is_user_function  # noqa: PLC0415

    named = Loading(
        device=given.device,
        dtype=given.dtype,
        attn=given.attn,
        trust_remote_code=given.trust_remote_code or None,
    ).given
    if named and is_user_function(given.model):
        raise UsageProblem(
            f"{', '.join(named)} {'is' if len(named) == 1 else 'are'} for a model that is loaded "
            f"here; {given.model} makes its own: set it there"
        )


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"expected a whole number from 1, not {text!r}")
    return int(text)
