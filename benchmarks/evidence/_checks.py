"""What is found of a model when it is measured, and whether that is what the model is made of.

What is expected is said by the model's recipe, from its configuration and its source. The output
is compared here, too, by the tokens themselves, before and after measuring.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch

from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import Call, Phase
from tests.zoo import Specimen

N_ROUNDS = 2
SUM_TOLERANCE_MS = 1e-6
PARTS = tuple(str(phase) for phase in Phase)


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What measuring showed of one model.

    `vision` are the outermost entries into vision, a module's path or a method's name; `block_list`
    is what the blocks' paths begin with, `decode_ms` the least and `residual_ms` the furthest from
    the total of any round. `changed` is what was left behind, or other than without us.
    """

    step: str
    block_list: str
    n_blocks: int
    vision: tuple[str, ...]
    vision_runs: str
    n_vision_calls: int
    n_vision_tokens: int | None
    n_text_tokens: int | None
    decode_ms: float
    residual_ms: float
    changed: tuple[str, ...]


def look_at(specimen: Specimen) -> Found:
    """Measure a model, and call it bare before and after."""
    before = specimen.generate(**specimen.inputs)
    traces = dict(_traces(specimen.model))
    measured = measure(
        specimen.generate,
        kwargs=specimen.inputs,
        options=Options(rounds=N_ROUNDS),
        identity=Identity(id=specimen.name, name=specimen.name),
    )
    left = dict(_traces(specimen.model))
    after = specimen.generate(**specimen.inputs)
    case = measured.case
    assert case.phase_map is not None, "a measured case has its phases"
    blocks = case.phase_map.blocks
    call = case.calls[0]
    outputs = {"the measured output": measured.output, "the next output": after}
    return Found(
        step=case.phase_map.step,
        block_list=blocks[0].rpartition(".")[0],
        n_blocks=len(blocks),
        vision=tuple(case.phase_map.vision_calls),
        vision_runs=case.phase_map.vision_runs,
        n_vision_calls=max(call.n_vision_calls for call in case.calls),
        n_vision_tokens=call.n_vision_tokens,
        n_text_tokens=call.n_text_tokens,
        decode_ms=min(call.decode_ms for call in case.calls),
        residual_ms=max(map(_residual_ms, case.calls)),
        changed=(
            *(name for name, output in outputs.items() if not _is_same(output, before)),
            *(f"{path or 'the model'} afterwards" for path in left if left[path] != traces[path]),
        ),
    )


def failed_checks(specimen: Specimen, found: Found) -> tuple[str, ...]:
    """Return what is other than the recipe says, or cannot be true."""
    compared = {
        "step module": (found.step, specimen.step_path),
        "list of blocks": (found.block_list, specimen.block_path),
        "number of blocks": (found.n_blocks, specimen.n_blocks),
        "where vision runs": (found.vision_runs, specimen.all_vision_runs),
        "runs of vision": (found.n_vision_calls, 1),
        "vision tokens": (found.n_vision_tokens, specimen.n_vision_tokens),
        "text tokens": (found.n_text_tokens, specimen.n_text_tokens),
    }
    problems = [
        f"{name}: {seen!r}, expected {expected!r}"
        for name, (seen, expected) in compared.items()
        if seen != expected
    ]
    if not covers_tower(found.vision, specimen.vision_path):
        problems.append(f"the tower {specimen.vision_path} is no part of {found.vision}")
    if not found.decode_ms > 0:
        problems.append(f"decode took {found.decode_ms} ms")
    if found.residual_ms > SUM_TOLERANCE_MS:
        problems.append(f"the phases miss the total by {found.residual_ms} ms")
    return (*problems, *(f"changed: {what}" for what in found.changed))


def covers_tower(entries: tuple[str, ...], tower: str) -> bool:
    """Whether vision is entered by the tower, by a module around it, or by a method above it."""
    return any(tower == entry or f"{tower}.".startswith(_reach(entry)) for entry in entries)


def _reach(entry: str) -> str:
    """Return what the paths below an entry begin with; a method reaches all of its owner."""
    owner, _, name = entry.rpartition(".")
    inside = owner if name.startswith("get_") else entry
    return f"{inside}." if inside else ""


def _traces(model: torch.nn.Module) -> Iterator[tuple[str, tuple[object, ...]]]:
    """Yield what measuring might leave on each module: hooks, and attributes of its own."""
    for path, module in model.named_modules():
        hooks = (module._forward_pre_hooks, module._forward_hooks)
        yield path, (sorted(vars(module)), *(tuple(own.items()) for own in hooks))


def _residual_ms(call: Call) -> float:
    """Return how far the parts are from the total."""
    return abs(sum(call.phase_time(part, "wall_ms") for part in PARTS) - call.total_ms)


def _is_same(output: object, expected: torch.Tensor) -> bool:
    return isinstance(output, torch.Tensor) and torch.equal(output, expected)
