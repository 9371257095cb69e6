# mypy: allow-untyped-calls
# (transformers annotates only a part of its functions.)

from __future__ import annotations

import json
from typing import TYPE_CHECKING, NoReturn, cast

import pytest
import torch
from transformers import (
    Idefics3Processor,
    Qwen2VLProcessor,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
)

from pytest_vlmlatency.errors import ModelNotLoaded
from pytest_vlmlatency.models import load as room
from pytest_vlmlatency.models.load import LoadedModel, load_model
from pytest_vlmlatency.models.processors import (
    IMAGE,
    build_tokenizer,
    chat_template,
    parts_of,
    pillow_processor,
    without_video,
)

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

    from PIL import Image
    from transformers import ProcessorMixin

    from pytest_vlmlatency.models.load import GenerativeModel
    from pytest_vlmlatency.models.processors import Processor

ADVICE = (
    "Give a hub id that is reachable or in the cache (HF_HUB_OFFLINE=1 uses the cache alone), a "
    "folder that save_pretrained wrote with its model and processor, or dummy:NAME for a known "
    "shape with random weights. Custom code runs only where trust_remote_code is asked for."
)


class TwinProcessor(Idefics3Processor):
    """Idefics3's, which earlier transformers would hold to Idefics3's own images."""

    image_processor_class = "SmolVLMImageProcessor"


def a_smolvlm() -> LoadedModel:
    """Return SmolVLM-tiny under the name and classes that SmolVLM2's checkpoints have."""
    twin = load_model("dummy:smolvlm-tiny")
    fields = twin.model.config.to_dict()
    for part in ("vision_config", "text_config"):
        fields[part].pop("model_type")
    config = SmolVLMConfig(**{key: value for key, value in fields.items() if key != "model_type"})
    model = SmolVLMForConditionalGeneration(config)
    model.load_state_dict(twin.model.state_dict())
    model.generation_config = twin.model.generation_config
    processor = TwinProcessor(
        pillow_processor("smolvlm", "SmolVLMImageProcessor")(
            size={"longest_edge": 512}, max_image_size={"longest_edge": 128}
        ),
        build_tokenizer(),
        image_seq_len=16,
        chat_template=chat_template(IMAGE),
    )
    generative = cast("GenerativeModel", model)
    generative.eval()
    return LoadedModel(
        model=generative,
        name="smolvlm",
        description="",
        processor=cast("Processor", processor),
    )


def own_smolvlm_module() -> ModuleType:
    module = pytest.importorskip(
        "transformers.models.smolvlm.processing_smolvlm",
        exc_type=ImportError,
        reason="in transformers 4 the module of SmolVLM's own processor wants torchvision",
    )
    return cast("ModuleType", module)


def saved(loaded: LoadedModel, folder: Path, *, processor_class: str, is_old: bool) -> Path:
    """Save as today's `save_pretrained` does, or in the separate files of older checkpoints."""
    processor = cast("ProcessorMixin", loaded.processor)
    loaded.model.save_pretrained(folder)
    processor.save_pretrained(folder, legacy_serialization=False)  # an earlier one's word
    file = folder / "processor_config.json"
    fields = json.loads(file.read_text()) | {"processor_class": processor_class}
    if is_old:
        image_processor = fields.pop("image_processor") | {"processor_class": processor_class}
        (folder / "preprocessor_config.json").write_text(json.dumps(image_processor))
    file.write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize("is_old", [False, True], ids=["one-file", "separate-files"])
@pytest.mark.parametrize(
    ("name", "processor_class"),
    [
        ("dummy:llava-tiny", "LlavaProcessor"),
        ("dummy:smolvlm-tiny", "Idefics3Processor"),
        ("dummy:qwen2-vl-tiny", "Qwen2VLProcessor"),
    ],
)
def test_a_saved_model_is_loaded_as_it_was(
    name: str, processor_class: str, *, is_old: bool, tmp_path: Path, cat: Image.Image
) -> None:
    before = load_model(name)
    folder = saved(before, tmp_path, processor_class=processor_class, is_old=is_old)

    after = load_model(str(folder))

    same_inputs_and_answer(before, after, cat)
    assert type(after.processor).__name__ == processor_class
    assert after.description == f"{type(before.model).__name__} from {folder}"
    assert after.model.dtype is torch.float32


@pytest.mark.parametrize("is_old", [False, True], ids=["one-file", "separate-files"])
def test_a_saved_smolvlm_is_loaded_without_its_video_half(
    *, is_old: bool, tmp_path: Path, cat: Image.Image
) -> None:
    own_smolvlm_module()
    before = a_smolvlm()
    folder = saved(before, tmp_path, processor_class="SmolVLMProcessor", is_old=is_old)

    after = load_model(str(folder))

    same_inputs_and_answer(before, after, cat)
    assert type(after.model).__name__ == "SmolVLMForConditionalGeneration"


def same_inputs_and_answer(before: LoadedModel, after: LoadedModel, image: Image.Image) -> None:
    given, again = (loaded.prepare(image, "What is this?") for loaded in (before, after))
    assert given.keys() == again.keys()
    assert all(torch.equal(given[key], again[key]) for key in given)
    answers = [
        loaded.model.generate(**given, max_new_tokens=4).tolist() for loaded in (before, after)
    ]
    assert answers[0] == answers[1]


def test_smolvlms_prompt_is_laid_out_as_its_own_processor_does(cat: Image.Image) -> None:
    own_module = own_smolvlm_module()
    loaded = a_smolvlm()

    ids = loaded.prepare(cat, "?")["input_ids"][0]

    own = own_module.get_image_prompt_string(
        3, 4, 16, "<fake_token_around_image>", IMAGE, "<global-img>"
    )
    text = f"<|im_start|>user\n{own}?<|im_end|>\n<|im_start|>assistant\n"
    assert ids.tolist() == build_tokenizer()(text)["input_ids"]


def test_a_saved_model_takes_the_settings_asked_for(tmp_path: Path) -> None:
    folder = saved(
        load_model("dummy:llava-tiny"), tmp_path, processor_class="LlavaProcessor", is_old=False
    )

    loaded = load_model(str(folder), dtype="bfloat16", attn="eager")

    assert loaded.model.dtype is torch.bfloat16
    assert loaded.model.config._attn_implementation == "eager"


def test_a_model_without_a_chat_template_gets_its_image_token_first(
    tmp_path: Path, cat: Image.Image
) -> None:
    folder = saved(
        load_model("dummy:llava-tiny"), tmp_path, processor_class="LlavaProcessor", is_old=False
    )
    (folder / "chat_template.jinja").unlink()
    loaded = load_model(str(folder))

    ids = loaded.prepare(cat, "What?")["input_ids"]

    assert ids.tolist()[0] == build_tokenizer()(IMAGE * 144 + "What?")["input_ids"]


def use_cache(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(folder))
    # Earlier transformers keep their own copy of its name.
    monkeypatch.setattr("transformers.utils.hub.TRANSFORMERS_CACHE", str(folder), raising=False)


def refused_hosts(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Let no host be found; return where those that were asked for will be listed."""
    asked: list[object] = []

    def find(host: object, *_of_service: object, **_hints: object) -> NoReturn:
        asked.append(host)
        raise OSError(f"{host} is silent")

    monkeypatch.setattr("socket.getaddrinfo", find)
    return asked


def test_a_cached_model_is_loaded_while_the_hub_is_silent_and_asks_it_no_more(
    tmp_path: Path, cat: Image.Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = load_model("dummy:llava-tiny")
    cached = tmp_path / "models--org--cached"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("a" * 40)
    saved(before, cached / "snapshots" / ("a" * 40), processor_class="LlavaProcessor", is_old=False)
    use_cache(monkeypatch, tmp_path)
    monkeypatch.setattr(room, "hub_answers", lambda _name: False)
    asked = refused_hosts(monkeypatch)

    after = load_model("org/cached")

    assert asked == []
    same_inputs_and_answer(before, after, cat)


def test_a_hub_id_that_is_neither_reached_nor_cached_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use_cache(monkeypatch, tmp_path)
    monkeypatch.setattr(room, "hub_answers", lambda _name: False)

    with pytest.raises(ModelNotLoaded) as refusal:
        load_model("org/missing")

    assert str(refusal.value) == (
        "org/missing cannot be loaded: the hub does not answer, and its cache lacks the model. "
        + ADVICE
    )


@pytest.mark.parametrize("name", ["./missing/folder", "/missing/folder", "no such name"])
def test_a_folder_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ModelNotLoaded) as refusal:
        load_model(name)

    assert str(refusal.value) == (
        f"there is no folder {name}, and it is no hub id either. {ADVICE}"
    )


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelNotLoaded, match="the folder was read, and then: Unrecognized model"):
        load_model(str(tmp_path))


REMOTE_CODE = """
from pathlib import Path
from transformers import LlavaConfig, LlavaForConditionalGeneration
Path(r"{witness}").touch()
class RemoteConfig(LlavaConfig):
    model_type = "remote_llava"
class RemoteModel(LlavaForConditionalGeneration):
    config_class = RemoteConfig
"""


@pytest.fixture
def remote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder whose configuration and model are custom code; running it leaves `ran`."""
    modules = tmp_path / "modules"
    monkeypatch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", str(modules))
    monkeypatch.syspath_prepend(str(modules))
    folder = saved(
        load_model("dummy:llava-tiny"),
        tmp_path / "remote",
        processor_class="LlavaProcessor",
        is_old=False,
    )
    (folder / "code.py").write_text(REMOTE_CODE.format(witness=tmp_path / "ran"))
    file = folder / "config.json"
    fields = json.loads(file.read_text()) | {
        "model_type": "remote_llava",
        "auto_map": {
            "AutoConfig": "code.RemoteConfig",
            "AutoModelForImageTextToText": "code.RemoteModel",
        },
    }
    file.write_text(json.dumps(fields))
    return folder


def test_custom_code_does_not_run_unasked(remote: Path) -> None:
    with pytest.raises(ModelNotLoaded, match=r"contains custom code .* trust_remote_code"):
        load_model(str(remote))

    assert not (remote.parent / "ran").exists()


def test_custom_code_runs_when_asked(remote: Path, cat: Image.Image) -> None:
    loaded = load_model(str(remote), trust_remote_code=True)

    assert (remote.parent / "ran").exists()
    assert type(loaded.model).__name__ == "RemoteModel"
    assert loaded.model.generate(**loaded.prepare(cat, "?"), max_new_tokens=2).shape[0] == 1


def test_a_processor_that_wants_torchvision_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = saved(
        load_model("dummy:qwen2-vl-tiny"),
        tmp_path,
        processor_class="Qwen2VLProcessor",
        is_old=False,
    )
    monkeypatch.setattr(room, "without_video", lambda own: own)

    with pytest.raises(ModelNotLoaded, match="Its processor wants torchvision, which is not inst"):
        load_model(str(folder))


def test_a_processor_without_video_keeps_its_name() -> None:
    kind = without_video(Qwen2VLProcessor)

    assert (kind.__name__, parts_of(kind)) == (
        "Qwen2VLProcessor",
        ["image_processor", "tokenizer"],
    )
