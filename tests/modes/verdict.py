"""What becomes of one mode on one specimen: right, wrong, refused, or no call of generate() at all.

A bare call is watched at the parts that the zoo knows by name; a measured one, on a clock that
these parts move by hand, must give back exactly that.
"""

import functools
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch

from pytest_vlmlatency.calls.hooks import replaced_method
from pytest_vlmlatency.discovery.watch import put_back, state_of
from pytest_vlmlatency.errors import InvalidMeasurement, PhasesNotFound, UsageProblem
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure
from pytest_vlmlatency.options import merge_options
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.modes.mode import Asked, Call, Mode, Outcome
from tests.zoo import Specimen, block_modules, step_module, vision_module

VISION_MS, PROMPT_MS, STEP_MS, TAIL_MS = 60.0, 30.0, 7.0, 1.0
REFUSALS = (InvalidMeasurement, PhasesNotFound, UsageProblem)
SEED = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """An outcome, and in words why it is none better; `case` where there is one."""

    outcome: Outcome
    why: str = ""
    case: Case | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Bare:
    """A bare call: what it returned, and how often the parts ran."""

    output: object
    n_vision: int
    n_steps: int
    n_blocks: int


def judge(mode: Mode, specimen: Specimen) -> Verdict:
    """Call generate() in this mode, bare and measured, and compare."""
    asked = mode.ask(specimen)
    try:
        with _as_before_if_it_fails(asked.specimen.model):
            bare = call_bare(asked)
    except Exception as error:  # whatever a model raises is the finding
        return _failing(asked, error)
    before = _state(asked.specimen)  # a bare call may leave hooks of transformers' own
    try:
        output, case = call_measured(asked)
    except REFUSALS as refusal:
        return _with_state(
            Verdict(outcome=Outcome.REFUSED, why=str(refusal)), before, asked.specimen
        )
    wrong = differences(mode, asked, bare, case)
    if not same(bare.output, output):
        wrong.append("the output differs from the bare one")
    outcome = Outcome.WRONG if wrong else Outcome.RIGHT
    return _with_state(
        Verdict(outcome=outcome, why="; ".join(wrong), case=case), before, asked.specimen
    )


def differences(mode: Mode, asked: Asked, bare: Bare, case: Case) -> list[str]:
    """Return in which facts a case differs from what was put in, and from the bare call."""
    call = case.calls[0]
    n_prompt = asked.n_prompt_forwards
    expected: dict[str, object] = {
        "vision_ms": VISION_MS * bare.n_vision,
        "prefill_ms": PROMPT_MS * n_prompt,
        "decode_ms": STEP_MS * (bare.n_blocks - n_prompt) + TAIL_MS,
        "other_ms": 0.0,
        "n_decode_steps": bare.n_steps - n_prompt,
        "n_output_tokens": mode.n_tokens,
        "n_generated_tokens": asked.n_generated_tokens or mode.n_tokens * asked.n_rows,
        "batch_size": asked.n_rows,
        "n_vision_tokens": asked.n_vision_tokens,
        "n_text_tokens": asked.n_text_tokens,
    }
    found = {name: getattr(call, name) for name in expected}
    labels = mode.labels_of.get(asked.specimen.name, mode.labels)
    expected["labels"], found["labels"] = labels, case.labels
    return [
        f"{name} is {found[name]}, not {value}"
        for name, value in expected.items()
        if found[name] != value
    ]


def call_bare(asked: Asked) -> Bare:
    """Make one call with nothing attached but counters on the parts that the zoo knows."""
    arguments = asked.fresh()
    runs: Counter[str] = Counter()
    with (
        delayed(vision_module(asked.specimen), lambda: runs.update(["vision"])),
        delayed(step_module(asked.specimen), lambda: runs.update(["step"])),
        delayed(block_modules(asked.specimen)[0], lambda: runs.update(["block"])),
    ):
        torch.manual_seed(SEED)
        output = _call_of(asked)(**arguments)
    return Bare(
        output=output, n_vision=runs["vision"], n_steps=runs["step"], n_blocks=runs["block"]
    )


def call_measured(asked: Asked) -> tuple[object, Case]:
    """Measure one round on a clock that vision, prompt and steps move; return output and case."""
    clock = FakeClock()
    n_blocks = 0

    def fresh() -> tuple[tuple[object, ...], dict[str, object]]:
        nonlocal n_blocks
        n_blocks = 0
        return (), dict(asked.fresh())

    def block() -> None:
        nonlocal n_blocks
        n_blocks += 1
        clock.advance_ms(PROMPT_MS if n_blocks <= asked.n_prompt_forwards else STEP_MS)

    given = {"model": asked.specimen.model, "setup": fresh, "rounds": 1}
    torch.manual_seed(SEED)
    with (
        delayed(vision_module(asked.specimen), lambda: clock.advance_ms(VISION_MS)),
        delayed(block_modules(asked.specimen)[0], block),
        _a_tail(asked.specimen.model, clock),
    ):
        measured = measure(
            _call_of(asked),
            options=merge_options(given, source="tests.modes"),
            identity=Identity(id=asked.specimen.name, name=asked.specimen.name),
            clock=clock,
        )
    return measured.output, measured.case


@contextmanager
def _a_tail(model: torch.nn.Module, clock: FakeClock) -> Iterator[None]:
    """Let generate() take 1 ms after its last forward, as choosing a token does."""
    original: Call = model.generate  # type: ignore[assignment]  # a method, not a module

    @functools.wraps(original)
    def generate(*args: object, **kwargs: object) -> object:
        output = original(*args, **kwargs)
        clock.advance_ms(TAIL_MS)
        return output

    with replaced_method(model, "generate", generate):
        yield


def _call_of(asked: Asked) -> Call:
    return asked.call or asked.specimen.generate


def same(one: object, other: object) -> bool:
    """Whether two outputs are equal to the last bit, tensors inside containers too."""
    if isinstance(one, torch.Tensor):
        return isinstance(other, torch.Tensor) and torch.equal(one, other)
    if isinstance(one, Mapping):
        return isinstance(other, Mapping) and same(list(one.values()), list(other.values()))
    if isinstance(one, list | tuple):
        return isinstance(other, list | tuple) and (
            len(one) == len(other) and all(map(same, one, other))
        )
    return type(one) is type(other)


def _failing(asked: Asked, error: Exception) -> Verdict:
    """Return that generate() raises; measured, it must raise the same."""
    words = f"{type(error).__name__}: {error}"
    try:
        with _as_before_if_it_fails(asked.specimen.model):
            call_measured(asked)
    except Exception as measured:
        if (type(measured), str(measured)) == (type(error), str(error)):
            return Verdict(outcome=Outcome.FAILING, why=words)
        if isinstance(measured, REFUSALS):
            return Verdict(outcome=Outcome.REFUSED, why=str(measured))
        words += f", but measured {type(measured).__name__}: {measured}"
    return Verdict(outcome=Outcome.WRONG, why=f"bare: {words}")


@contextmanager
def _as_before_if_it_fails(model: torch.nn.Module) -> Iterator[None]:
    """Undo what a call that fails leaves on a model: a cache half made fails the next one."""
    before = state_of(model)
    try:
        yield
    except Exception:
        put_back(before)
        raise


def _state(specimen: Specimen) -> list[object]:
    """Return what a call must leave as it was: hooks and attributes of every module."""
    return [
        (
            sorted(vars(module)),
            [list(module._forward_hooks), list(module._forward_pre_hooks)],
        )
        for module in specimen.model.modules()
    ]


def _with_state(verdict: Verdict, before: list[object], specimen: Specimen) -> Verdict:
    if _state(specimen) == before:
        return verdict
    return Verdict(outcome=Outcome.WRONG, why="hooks or attributes stayed on the model")
