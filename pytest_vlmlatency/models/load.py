"""Load what `--vlm-model` names: a hub id, a local folder, or `dummy:NAME`.

A hub id and a folder go through transformers' Auto classes, as a user's own code would. Whatever
cannot be loaded as asked is an error that says what was tried; nothing is replaced silently.

Whether the model hub answers, asked once and with a short limit, and what its cache holds.

transformers repeats a failed request for some 25 seconds before it looks into its cache. Owns the
questions only; `load` decides what follows from the answers.
"""

from __future__ import annotations

import inspect
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import huggingface_hub.utils
import torch
from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor
from transformers.models.auto.processing_auto import PROCESSOR_MAPPING
from transformers.utils.import_utils import is_torchvision_available

from pytest_vlmlatency.errors import ModelNotLoaded, NoAccelerator, UsageProblem
from pytest_vlmlatency.models.accelerator import visible_accelerator
from pytest_vlmlatency.models.dummy import build_dummy, find_shape
from pytest_vlmlatency.models.processors import parts_of, prompt_text, without_video
from pytest_vlmlatency.models.shapes import PREFIX
from pytest_vlmlatency.options import DTYPES

# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)


if TYPE_CHECKING:
    from collections.abc import Callable

    from PIL import Image
    from transformers import PreTrainedConfig, PreTrainedModel, ProcessorMixin

    from pytest_vlmlatency.models.processors import Processor

    class GenerativeModel(PreTrainedModel):
        """What every model that can be loaded is; transformers has no type for it."""

        generate: Callable[..., torch.Tensor]


HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")
# What transformers raises for files, settings or packages that are missing or do not fit; the last
# two for a processor that is made without the parts it expects.
LOADING_ERRORS = (OSError, ValueError, ImportError, RuntimeError, AttributeError, TypeError)
ADVICE = (
    "Give a hub id that is reachable or in the cache (HF_HUB_OFFLINE=1 uses the cache alone), a "
    "folder that save_pretrained wrote with its model and processor, or dummy:NAME for a known "
    "shape with random weights. Custom code runs only where trust_remote_code is asked for."
)
ATTENTIONS = ("eager", "sdpa", "flash_attention_2", "flash_attention_3", "flex_attention")


@dataclass(frozen=True, kw_only=True)
class LoadedModel:
    """A model on its device, in eval mode, and the processor that makes its inputs."""

    model: GenerativeModel
    name: str
    description: str
    processor: Processor

    def prepare(
        self, image: Image.Image | Sequence[Image.Image] | None, prompt: str
    ) -> dict[str, torch.Tensor]:
        """Return the inputs of one prompt with its images, ready for `model.generate(**inputs)`.

        Tensors are on the model's device, pixels in its dtype. A MolmoE-shaped model's inputs are
        for the tier it has now.
        """
        images = [] if image is None else list(image) if isinstance(image, Sequence) else [image]
        text = prompt_text(self.processor, prompt, n_images=len(images))
        prepared = self.processor(images=images or None, text=[text], return_tensors="pt")
        return {key: self._placed(key, value) for key, value in prepared.items()}

    def _placed(self, key: str, value: object) -> torch.Tensor:
        if not isinstance(value, torch.Tensor):
            raise UsageProblem(
                f"the processor of {self.name} returned {key} as {type(value).__name__}, not as a "
                f"tensor; prepare this model's inputs yourself and pass model="
            )
        dtype = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, dtype)


def load_model(
    name: str,
    *,
    device: str | torch.device = "cpu",
    dtype: str = "auto",
    attn: str | None = None,
    compile: bool = False,
    trust_remote_code: bool = False,
) -> LoadedModel:
    """Return a model with its processor. `dtype="auto"` is the checkpoint's own.

    `compile` compiles the forward of each decoder block in place. Whole-model compilation would
    hide vision in every model that encodes the image inside its forward: no hook fires in compiled
    code. So the vision part and the step module stay outside, whatever the model.
    """
    place = _checked_device(device)
    _check_word("dtype", dtype, DTYPES)
    if attn is not None and "/" not in attn:  # a kernel's hub id has a slash
        _check_word("attn", attn, ATTENTIONS)
    if name.startswith(PREFIX):
        shape = find_shape(name)
        weights = getattr(torch, shape.dtype if dtype == "auto" else dtype)
        try:
            model, processor = build_dummy(name, dtype=weights, device=place, attn=attn or "sdpa")
        except (ImportError, ValueError) as error:  # an attention that is missing or not supported
            raise ModelNotLoaded(f"{name} cannot be built: {_first_line(error)}") from error
        description = f"{shape.description}, random weights"
    else:
        model, processor = _load_pretrained(name, dtype, attn, trust=trust_remote_code)
        model.to(place)  # type: ignore[arg-type]  # its stub hides nn.Module.to
        description = f"{type(model).__name__} from {name}"
    if compile:
        compile_blocks(model)
    model.eval()
    generative = cast("GenerativeModel", model)
    return LoadedModel(model=generative, name=name, description=description, processor=processor)


def compile_blocks(model: PreTrainedModel) -> int:
    """Compile each decoder block's forward in place, and return the number of blocks.

    All blocks share one function. Counted together, their compilations would soon pass torch's
    limit, and the rest would run uncompiled with no more than a line in the log. With dynamic
    shapes a block has one graph for prompts and one for steps, so that no later prompt's length
    compiles anything inside a measurement.
    """
    parts = model.get_decoder().children()
    lists = [part for part in parts if isinstance(part, torch.nn.ModuleList)]
    if not lists:
        raise ModelNotLoaded(
            f"the decoder of {type(model).__name__} has no list of blocks to compile one by one; "
            f"compile it yourself and pass model="
        )
    if "isolate_recompiles" not in inspect.signature(torch.compile).parameters:
        raise ModelNotLoaded(
            f"torch {torch.__version__} cannot count each block's compilations on its own, so most "
            f"blocks would run uncompiled; torch 2.13 can"
        )
    blocks = max(lists, key=lambda part: sum(weight.numel() for weight in part.parameters()))
    with warnings.catch_warnings():
        # Loading its compiler, torch warns of a deprecated part that it uses itself.
        warnings.simplefilter("ignore", DeprecationWarning)
        for block in blocks:
            block.forward = torch.compile(  # type: ignore[call-overload]  # its stub is behind
                block.forward, dynamic=True, isolate_recompiles=True
            )
    return len(blocks)


def _load_pretrained(
    name: str, dtype: str, attn: str | None, *, trust: bool
) -> tuple[PreTrainedModel, Processor]:
    folder = Path(name).expanduser()
    is_folder = folder.is_dir()
    if not is_folder and not HUB_ID.fullmatch(name):
        raise ModelNotLoaded(f"there is no folder {name}, and it is no hub id either. {ADVICE}")
    is_cached_only = not is_folder and not hub_answers(name)
    chosen: dict[str, Any] = {"trust_remote_code": trust}
    attention = {} if attn is None else {"attn_implementation": attn}
    try:
        # A folder of the cache: told to use local files only, from_pretrained asks the hub still.
        source = str(folder) if is_folder else cached_folder(name) if is_cached_only else name
        config = AutoConfig.from_pretrained(source, **chosen)
        model = AutoModelForImageTextToText.from_pretrained(
            source, dtype=dtype, **attention, **chosen
        )
        return model, _load_processor(source, config, chosen)
    except LOADING_ERRORS as error:
        tried = (
            "the hub does not answer, and its cache lacks the model"
            if is_cached_only
            else (
                f"{'the folder' if is_folder else 'the hub'} was read, and then: "
                f"{_first_line(error)}"
            )
        )
        raise ModelNotLoaded(
            f"{name} cannot be loaded: {tried}.{_missing_extra(error)} {ADVICE}"
        ) from error


def _load_processor(source: str, config: PreTrainedConfig, chosen: dict[str, Any]) -> Processor:
    own = cast("type[ProcessorMixin] | None", PROCESSOR_MAPPING.get(type(config), None))
    wants_video = own is not None and "video_processor" in parts_of(own)
    if own is not None and wants_video and not is_torchvision_available():
        return cast("Processor", without_video(own).from_pretrained(source, **chosen))
    return cast("Processor", AutoProcessor.from_pretrained(source, **chosen))


def _missing_extra(error: BaseException) -> str:
    wants = any(word in str(error).lower() for word in ("torchvision", "video"))
    if is_torchvision_available() or not wants:
        return ""
    return (
        " Its processor wants torchvision, which is not installed (take the build for your torch)."
    )


def _first_line(error: BaseException) -> str:
    text = str(error).strip()
    return text.splitlines()[0].rstrip(".") if text else type(error).__name__


def _checked_device(device: str | torch.device) -> torch.device:
    try:
        place = torch.device(device)
    except RuntimeError as error:
        raise UsageProblem(f"device is {device!r}: {_first_line(error)}") from error
    accelerator = visible_accelerator()
    if place.type != "cpu" and (accelerator is None or accelerator.type != place.type):
        raise NoAccelerator(
            f"device is {str(place)!r}, and torch sees "
            f"{'no accelerator' if accelerator is None else f'only {accelerator.type}'}"
        )
    return place


def _check_word(name: str, value: str, accepted: Sequence[str]) -> None:
    if value not in accepted:
        raise UsageProblem(f"{name} is {value!r}; expected one of {', '.join(accepted)}")


TIMEOUT_S = 10.0


def hub_answers(name: str) -> bool:
    """Return whether the hub can be asked about a model, also when it refuses or has none."""
    no_answer: tuple[type[Exception], ...] = (OfflineModeIsEnabled, *silences())
    try:
        HfApi().model_info(name, timeout=TIMEOUT_S)
    except HfHubHTTPError:
        return True  # what it said is repeated, with advice, when the model is loaded
    except no_answer:
        return False
    return True


def cached_folder(name: str) -> str:
    """Return where the cache holds a model's files, without asking the hub.

    Raises:
        LocalEntryNotFoundError: if it holds none.

    """
    return snapshot_download(name, local_files_only=True)


def silences() -> tuple[type[Exception], ...]:
    """Return the exceptions by which huggingface_hub's own client says that nothing answered."""
    client = getattr(huggingface_hub.utils, "httpx", None)
    if client is not None:
        return client.ConnectError, client.TimeoutException
    client = import_module("requests")  # the one before it, which later ones do not install
    return client.ConnectionError, client.Timeout
