"""What was asked for on the command line, as one frozen object. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.options import PHASE_KEYS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

DEFAULT_PROMPT = "What is in this picture?"
DEFAULT_NEW_TOKENS = 8
"""Enough to see steps that are alike, few enough not to wait for."""


@dataclass(frozen=True, kw_only=True)
class Loading:
    """How a model is loaded and what it is asked; None where the command line says nothing."""

    device: str | None = None
    dtype: str | None = None
    attn: str | None = None
    trust_remote_code: bool | None = None
    images: Sequence[Path] | None = None
    prompt: str | None = None

    @property
    def given(self) -> tuple[str, ...]:
        """The options that were given, as they are written."""
        names = {
            "--device": self.device,
            "--dtype": self.dtype,
            "--attn": self.attn,
            "--trust-remote-code": self.trust_remote_code,
            "--image": self.images,
            "--prompt": self.prompt,
        }
        return tuple(name for name, value in names.items() if value is not None)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One inspection. `phases` are named by hand; `threads` is for a model on the CPU."""

    source: str
    loading: Loading = field(default_factory=Loading)
    max_new_tokens: int | None = None
    phases: Mapping[str, Sequence[str]] | None = None
    threads: int | None = None
    trace: Path | None = None
    has_trace_blocks: bool = False
    has_trace_tokens: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot be honoured before a model is loaded."""
        if self.max_new_tokens is not None and self.max_new_tokens < 1:
            raise UsageProblem(f"--max-new-tokens is {self.max_new_tokens}; expected at least 1")
        if self.threads is not None and self.threads < 0:
            raise UsageProblem(f"--threads is {self.threads}; expected 0 or more")
        details = {"--trace-blocks": self.has_trace_blocks, "--trace-tokens": self.has_trace_tokens}
        for name, is_given in details.items():
            if is_given and self.trace is None:
                raise UsageProblem(f"{name} adds to a trace; say where to write it: --trace FILE")
        if self.trace is not None and not self.trace.parent.is_dir():
            raise UsageProblem(f"--trace {self.trace}: there is no folder {self.trace.parent}")
        for picture in self.loading.images or ():
            if not picture.is_file():
                raise UsageProblem(f"--image {picture}: there is no such file")


def parse_phases(written: Sequence[str]) -> Mapping[str, Sequence[str]] | None:
    """Return phases named by hand, written as `vision=model.tower,model.projector`."""
    named: dict[str, Sequence[str]] = {}
    for text in written:
        key, equals, paths = text.partition("=")
        if not equals or key not in PHASE_KEYS:
            raise UsageProblem(
                f"--phase {text}: expected NAME=PATH[,PATH...] with a NAME of "
                f"{', '.join(PHASE_KEYS)}, as in --phase vision=model.visual"
            )
        named[key] = paths.split(",")
    return named or None
