"""The model of a profile, ready for any sample: one that is loaded here, or a user's function's.

Owns what a user's function may return. How such a file is imported is `inspection`'s.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.errors import UsageProblem
from pytest_vlmlatency.inspection.sources import generate_of, takes_lengths
from pytest_vlmlatency.inspection.user_function import call_user_function, is_user_function
from pytest_vlmlatency.models.load import LoadedModel, load_model

if TYPE_CHECKING:
    import torch
    from PIL import Image

    from pytest_vlmlatency.models.load import GenerativeModel
    from pytest_vlmlatency.models.processors import Processor

    Prepare = Callable[[Sequence[Image.Image], str], Mapping[str, object]]

EXPECTED = (
    "expected (model, prepare) or (model.generate, prepare), prepare(images, prompt) being a "
    "function that returns what generate() takes for a sample; or (model, processor), a processor "
    "of transformers"
)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """What is profiled: `generate` is called with what `prepare` makes of a sample.

    `model` is the module that generates, to which configurations are applied.
    """

    model: torch.nn.Module
    generate: Callable[..., object]
    prepare: Prepare

    @property
    def dtype(self) -> str:
        """The dtype of the weights, that of the first where they differ; "none" without any."""
        dtypes = (one.dtype for one in self.model.parameters() if one.is_floating_point())
        found = getattr(self.model, "dtype", None) or next(dtypes, None)
        return str(found or "none").removeprefix("torch.")


def open_subject(
    source: str, *, device: str, dtype: str, attn: str | None, is_trusted: bool
) -> Subject:
    """Load a model, or call a user's function for one; UsageProblem where it returns no such."""
    if is_user_function(source):
        return _of_function(source)
    loaded = load_model(source, device=device, dtype=dtype, attn=attn, trust_remote_code=is_trusted)
    return Subject(model=loaded.model, generate=loaded.model.generate, prepare=loaded.prepare)


def _of_function(source: str) -> Subject:
    made = call_user_function(source)
    if hasattr(made, "model") and hasattr(made, "prepare"):  # such as what load_model returns
        made = (made.model, made.prepare)
    if not (isinstance(made, tuple | list) and len(made) == 2):
        raise UsageProblem(f"{source} returned a {type(made).__name__}; {EXPECTED}")
    given, second = made
    generate = generate_of(given, source, expected=EXPECTED)
    model = find_target(generate, (), {}, None).model
    if not takes_lengths(generate):
        raise UsageProblem(
            f"the generate() from {source} takes no max_new_tokens, which a profile gives with "
            f"each sample; expected one that takes it"
        )
    return Subject(model=model, generate=generate, prepare=_prepare(source, model, second))


def _prepare(source: str, model: torch.nn.Module, given: object) -> Prepare:
    if hasattr(given, "tokenizer") or hasattr(given, "image_processor"):
        loaded = LoadedModel(
            model=cast("GenerativeModel", model),
            name=source,
            description=f"a model of {source}",
            processor=cast("Processor", given),
        )
        return loaded.prepare
    if not callable(given) or not _takes_a_sample(given):
        what = "inputs of its own" if isinstance(given, Mapping) else f"{given!r}"
        raise UsageProblem(
            f"{source} returned {what} beside the model, which do not follow the samples of the "
            f"data set; {EXPECTED}"
        )

    def prepare(images: Sequence[Image.Image], prompt: str) -> Mapping[str, object]:
        inputs = given(images, prompt)
        if not isinstance(inputs, Mapping):
            raise UsageProblem(
                f"prepare(images, prompt) of {source} returned a {type(inputs).__name__}; expected "
                f"a mapping of arguments of generate()"
            )
        return inputs

    return prepare


def _takes_a_sample(function: Callable[..., object]) -> bool:
    try:
        inspect.signature(function).bind("images", "prompt")
    except TypeError:
        return False
    return True
