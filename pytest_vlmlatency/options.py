"""Every setting of a measurement, merged once into a frozen Options.

Precedence, strongest first: the call (`pedantic`, `measure_generate`), the `vlm_latency` marker,
the command line, the ini file, the default. A layer that does not name a key leaves it to the
next one. Unknown keys and impossible values are errors, never ignored.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import TYPE_CHECKING, Protocol, cast

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.terms import JOINED, QUARANTINE, gate_terms, joined

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from datetime import date

    from pytest_vlmlatency.records import GateTerms, Scalar

PHASE_KEYS = ("vision", "blocks", "step")
DTYPES = ("auto", "float32", "float16", "bfloat16")


class Configuration(Protocol):
    """Values for a model's run-time knobs, applied for a call and undone after it.

    Any model's knobs can implement it; `models.knobs.MolmoeConfiguration` does.
    """

    def values(self) -> Mapping[str, Scalar]:
        """Return the value asked for of each knob."""

    def apply(self, model: object, /) -> AbstractContextManager[object]:
        """Return a context manager that applies the values; afterwards the model is as before."""

    def read_back(self, model: object, /) -> Mapping[str, Scalar]:
        """Return what each knob is on this model now, read from the parts that will run."""


PhasePart = str | Callable[..., object]
PhaseOverride = Mapping[str, PhasePart | Sequence[PhasePart]]
"""The parts of a model by phase, e.g. {"vision": ["visual"], "blocks": "model.layers", "step": ""}.

A part is a path of `model.named_modules()`, or a function that is given the model and returns a
module of it, a list of modules, or paths: `{"blocks": lambda model: model.transformer.blocks}`. A
module will do, too. "blocks" may be the list or its members; "step" is one module, called once a
forward. "vision" may also be a method that the model calls by its name, `model.encode_images` or
"encode_images": for the time of a call it is wrapped in an attribute of its module, and a method
that is called otherwise (through its class) is not seen, which is refused. `{"vision": []}` says
that a call has no vision.
"""
HOW_TO_NAME = (
    'name them by hand: phases={"vision": ["vision_tower", "projector"], "blocks": "model.layers", '
    '"step": ""} with paths of model.named_modules() ("" is the model itself), methods that the '
    "model calls by their names, or functions of the model that return its modules"
)
WHAT_TO_NAME = {
    "vision": "with what is vision, [] if no phase is to be; the rest is counted where it runs",
    "blocks": "with the modules or methods that run in each step",
    "step": "with the module or method that runs once for each forward, or the prompt's method and "
    "each token's",
}


def name_by_hand(key: str) -> str:
    """Return how a key of `phases=` gets past a refusal, as the end of its message."""
    return f"name it by hand: phases={{{key!r}: ...}} {WHAT_TO_NAME[key]}"


@dataclass(frozen=True, kw_only=True)
class Options:
    """The settings of one measurement.

    `rounds` is an exact count of kept rounds; None leaves it to the stopping rule: at least
    `MIN_ROUNDS`, until the noise is low or has stopped falling, or `max_time_s` has passed.
    `threads` is the number of CPU threads torch may use while a model on the CPU is measured,
    pinned to as many cores; 0 leaves threads and cores as they are; None is 1, or where something
    is compiled, as many as torch has. From `target` on: how the case is judged where a gate is
    asked for; `terms` is what they mean.
    """

    rounds: int | None = None
    warmup_rounds: int = 2
    max_time_s: float = 20.0
    per_token: bool = False
    threads: int | None = None
    setup: Callable[[], object] | None = None
    model: object | None = None
    phases: PhaseOverride | None = None
    config: Configuration | None = None
    device: str | None = None
    target: float | Mapping[str, float] | None = None
    alpha: float | None = None
    min_effect: float | None = None
    budget_ms: Mapping[str, float | Mapping[str, float]] | None = None
    gate: str | None = None
    why: str | None = None
    until: str | date | None = None

    @property
    def terms(self) -> GateTerms:
        """How the case is to be judged."""
        return gate_terms(
            target=self.target,
            alpha=self.alpha,
            min_effect=self.min_effect,
            budget_ms=self.budget_ms,
            gate=self.gate,
            why=self.why,
            until=self.until,
        )

    def __post_init__(self) -> None:
        """Refuse values that no measurement could honour."""
        _check_count("rounds", self.rounds, at_least=1)
        _check_count("warmup_rounds", self.warmup_rounds, at_least=0)
        _check_count("threads", self.threads, at_least=0)
        if isinstance(self.max_time_s, bool) or not isinstance(self.max_time_s, int | float):
            raise UsageProblem(f"max_time_s is {self.max_time_s!r}; expected a number of seconds")
        if not 0 < self.max_time_s < float("inf"):
            raise UsageProblem(f"max_time_s is {self.max_time_s}; expected more than 0 seconds")
        if not isinstance(self.per_token, bool):
            raise UsageProblem(f"per_token is {self.per_token!r}; expected True or False")
        if self.setup is not None and not callable(self.setup):
            raise UsageProblem(f"setup is {self.setup!r}; expected a function without arguments")
        if self.phases is not None:
            _check_phases(self.phases)
        if self.config is not None:
            as_configuration(self.config)
        assert self.terms is not None, "making the terms checks them"


KEYS = tuple(field.name for field in fields(Options))
MARKER_KEYS = tuple(key for key in KEYS if key != "device")

COMMAND_LINE = {
    "rounds": "--vlm-rounds",
    "warmup_rounds": "--vlm-warmup-rounds",
    "max_time_s": "--vlm-max-time",
    "per_token": "--vlm-per-token",
    "threads": "--vlm-threads",
    "target": "--vlm-target",
}
"""The keys that the command line and the ini file can set; `device` follows --gpu as well."""


@dataclass(frozen=True, kw_only=True)
class ModelChoice:
    """The model that `--vlm-model` names, where it goes and how it is loaded."""

    name: str
    device: str = "cpu"
    dtype: str = "auto"
    attn: str | None = None
    compile: bool = False
    trust_remote_code: bool = False


def merge_options(*layers: Mapping[str, object], source: str = "vlm_latency") -> Options:
    """Return one Options from layers of keys, strongest first; None leaves a key to the next.

    `source` names the strongest layer in the message about an unknown key. Targets and budgets are
    left to the next layer by phase, and `gate`, `why` and `until` together: a reason belongs to
    the quarantine that it was written for.
    """
    merged: dict[str, object] = {}
    for layer in layers:
        check_keys(layer, KEYS, source=source)
        is_quarantine_known = any(key in merged for key in QUARANTINE)
        for key, value in layer.items():
            if value is None or (key in QUARANTINE and is_quarantine_known):
                continue
            if key in JOINED and key in merged:
                merged[key] = joined(key, merged[key], value)
            merged.setdefault(key, value)
    return Options(**merged)  # type: ignore[arg-type]  # __post_init__ checks every value


def marker_layer(args: Sequence[object], kwargs: Mapping[str, object]) -> Mapping[str, object]:
    """Return the keys of one `vlm_latency` marker, each of them known and possible by itself."""
    source = "@pytest.mark.vlm_latency"
    if args:
        listed = ", ".join(repr(arg) for arg in args)
        raise UsageProblem(
            f"{source} was given {listed} without a name; it takes keywords only: "
            f"{', '.join(MARKER_KEYS)}"
        )
    check_keys(kwargs, MARKER_KEYS, source=source)
    try:
        merge_options(kwargs, source=source)
    except UsageProblem as problem:
        raise UsageProblem(f"{source}: {problem}") from None
    return kwargs


def as_configuration(config: object) -> Configuration:
    """Return `config` if it can be applied and read back, else raise UsageProblem."""
    missing = [
        name
        for name in ("values", "apply", "read_back")
        if not callable(getattr(config, name, None))
    ]
    if missing:
        raise UsageProblem(
            f"config is {config!r}, without {', '.join(missing)}(); expected an object with "
            f"values(), apply(model) and read_back(model), such as models.knobs.MolmoeConfiguration"
        )
    return cast("Configuration", config)


def check_keys(given: Mapping[str, object], known: Sequence[str], *, source: str) -> None:
    """Raise UsageProblem for the first key that is not known, naming the nearest one."""
    for key in given:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise UsageProblem(f"{source} does not know {key!r}{hint} It takes {', '.join(known)}.")


LEFT_OPEN = ("rounds", "threads")
"""Counts that None leaves to the measurement."""


def _check_count(name: str, value: object, *, at_least: int) -> None:
    if value is None and name in LEFT_OPEN:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise UsageProblem(f"{name} is {value!r}; expected a whole number of at least {at_least}")


def _check_phases(phases: object) -> None:
    if not isinstance(phases, Mapping):
        raise UsageProblem(f"phases is {phases!r}; expected a mapping with {', '.join(PHASE_KEYS)}")
    check_keys(phases, PHASE_KEYS, source="phases=")
    for key, paths in phases.items():
        listed = [paths] if isinstance(paths, str) or callable(paths) else paths
        if not isinstance(listed, Sequence) or not all(_may_be_part(part) for part in listed):
            raise UsageProblem(
                f"phases={{{key!r}: {paths!r}}}; expected module paths as strings, or functions of "
                f"the model that return its modules"
            )


def _may_be_part(part: object) -> bool:
    return isinstance(part, str) or callable(part)
