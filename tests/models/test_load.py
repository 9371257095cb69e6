from __future__ import annotations

import inspect
from functools import partial
from typing import TYPE_CHECKING

import pytest
import torch

from pytest_vlmlatency.errors import ModelNotLoaded, NoAccelerator, UsageProblem
from pytest_vlmlatency.models import load as room
from pytest_vlmlatency.models.images import photograph
from pytest_vlmlatency.models.load import LoadedModel, load_model
from tests.builders import see_accelerator

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from PIL import Image

SMALL = ["dummy:molmoe-nano", "dummy:llava-tiny", "dummy:smolvlm-tiny", "dummy:qwen2-vl-tiny"]


@pytest.mark.parametrize("name", SMALL)
def test_a_dummy_shape_describes_a_photograph(name: str) -> None:
    loaded = load_model(name)
    inputs = loaded.prepare(photograph("coffee", longest_side=256), "What is this?")

    output = loaded.model.generate(**inputs, max_new_tokens=6)

    assert output.shape == (1, inputs["input_ids"].shape[1] + 6)
    assert (loaded.name, loaded.model.training) == (name, False)


@pytest.mark.parametrize("name", SMALL)
def test_images_and_their_places_agree(name: str) -> None:
    loaded = load_model(name)
    pictures = [photograph("page"), photograph("astronaut", longest_side=100)]

    both = loaded.prepare(pictures, "Compare them.")["input_ids"]
    each = [loaded.prepare(picture, "Compare them.")["input_ids"] for picture in pictures]

    token = loaded.model.config.image_token_id
    counts = [int((ids == token).sum()) for ids in (both, *each)]
    assert counts[0] == counts[1] + counts[2]
    assert min(counts) > 0


@pytest.mark.parametrize("name", SMALL)
def test_a_text_alone_has_no_pixels(name: str) -> None:
    loaded = load_model(name)

    inputs = loaded.prepare(None, "Count to three.")

    assert "pixel_values" not in inputs
    assert not (inputs["input_ids"] == loaded.model.config.image_token_id).any()
    assert loaded.model.generate(**inputs, max_new_tokens=2).shape[1] == (
        inputs["input_ids"].shape[1] + 2
    )


def test_another_picture_changes_what_is_prepared(nano: LoadedModel, cat: Image.Image) -> None:
    pixels = [nano.prepare(image, "?")["pixel_values"] for image in (cat, cat.rotate(90))]

    assert not torch.equal(*pixels)


def test_a_dummy_is_the_same_each_time(cat: Image.Image) -> None:
    outputs = []
    for _ in range(2):
        loaded = load_model("dummy:llava-tiny")
        outputs.append(loaded.model.generate(**loaded.prepare(cat, "?"), max_new_tokens=8).tolist())

    assert outputs[0] == outputs[1]


def test_a_dtype_holds_for_weights_and_pixels(cat: Image.Image) -> None:
    loaded = load_model("dummy:llava-tiny", dtype="bfloat16")

    inputs = loaded.prepare(cat, "What is this?")

    assert {weight.dtype for weight in loaded.model.parameters()} == {torch.bfloat16}
    assert inputs["pixel_values"].dtype is torch.bfloat16
    assert inputs["input_ids"].dtype is torch.int64
    assert loaded.model.generate(**inputs, max_new_tokens=2).shape[0] == 1


def test_an_attention_holds_for_every_part() -> None:
    loaded = load_model("dummy:smolvlm-tiny", attn="eager")

    parts = [part for part in loaded.model.modules() if hasattr(part, "config")]
    assert {part.config._attn_implementation for part in parts} == {"eager"}  # type: ignore[union-attr]


def test_the_description_says_that_the_weights_are_random() -> None:
    assert load_model("dummy:llava-tiny").description == (
        "LLaVA-1.5's wiring at a size for CPUs: 144 image tokens, 2 M, random weights"
    )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            {"dtype": "int8"},
            "dtype is 'int8'; expected one of auto, float32, float16, bfloat16",
        ),
        (
            {"attn": "fast"},
            "attn is 'fast'; expected one of eager, sdpa, flash_attention_2, flash_attention_3, "
            "flex_attention",
        ),
    ],
)
def test_a_wrong_setting_is_refused_with_the_accepted_ones(
    wrong: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageProblem) as refusal:
        load_model("dummy:llava-tiny", **wrong)  # type: ignore[arg-type]  # what is tested

    assert str(refusal.value) == message


def test_a_device_that_no_torch_has_is_refused() -> None:
    with pytest.raises(UsageProblem, match="device is 'abacus': Expected one of cpu, cuda"):
        load_model("dummy:llava-tiny", device="abacus")


def test_a_device_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    see_accelerator(monkeypatch, None)

    with pytest.raises(NoAccelerator, match="device is 'cuda', and torch sees no accelerator"):
        load_model("dummy:llava-tiny", device="cuda")


def test_a_device_of_another_kind_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    see_accelerator(monkeypatch, "cuda")

    with pytest.raises(NoAccelerator, match="device is 'xpu:1', and torch sees only cuda"):
        load_model("dummy:llava-tiny", device="xpu:1")


def test_an_attention_that_is_not_installed_is_said() -> None:
    with pytest.raises(ModelNotLoaded, match=r"dummy:llava-tiny cannot be built: .*[Ff]lash"):
        load_model("dummy:llava-tiny", attn="flash_attention_2")


def test_a_processor_that_returns_no_tensors_is_refused(nano: LoadedModel) -> None:
    class Listing:
        chat_template = None

        def __call__(self, **_: object) -> dict[str, object]:
            return {"pixel_values": [1, 2]}

    loaded = LoadedModel(model=nano.model, name="mine", description="", processor=Listing())  # type: ignore[arg-type]  # a stand-in

    with pytest.raises(UsageProblem, match="the processor of mine returned pixel_values as list"):
        loaded.prepare(None, "?")


counts_apart = pytest.mark.skipif(
    "isolate_recompiles" not in inspect.signature(torch.compile).parameters,
    reason="this torch cannot count each block's compilations on its own; compile=True is refused",
)


class GraphCounter:
    """A compiler that leaves graphs as they are, and counts them and their runs."""

    def __init__(self) -> None:
        self.n_graphs = 0
        self.n_runs = 0

    def __call__(
        self, graph: torch.fx.GraphModule, _inputs: Sequence[torch.Tensor]
    ) -> Callable[..., object]:
        self.n_graphs += 1

        def run(*args: object) -> object:
            self.n_runs += 1
            return graph.forward(*args)

        return run


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> GraphCounter:
    counter = GraphCounter()
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=counter))
    return counter


@pytest.mark.slow
@counts_apart
def test_compiled_blocks_give_the_same_and_still_call_hooks(
    cat: Image.Image, graphs: GraphCounter
) -> None:
    plain, compiled = (load_model("dummy:llava-tiny", compile=is_on) for is_on in (False, True))
    inputs = plain.prepare(cat, "What is this?")
    expected = plain.model.generate(**inputs, max_new_tokens=3)
    compiled.model.generate(**inputs, max_new_tokens=3)  # hooks come after compilation
    fired: list[str] = []
    parts = {
        "vision": compiled.model.model.vision_tower,
        "block": compiled.model.model.language_model.layers[0],
        "step": compiled.model,
    }
    for name, part in parts.items():
        part.register_forward_pre_hook(lambda *_, name=name: fired.append(name))

    output = compiled.model.generate(**inputs, max_new_tokens=3)

    assert output.tolist() == expected.tolist()
    assert fired == ["vision", *["step", "block"] * 3]
    assert graphs.n_runs == 6 * 3 * 2  # blocks, forwards, calls: no block ran uncompiled


@pytest.mark.slow
@counts_apart
def test_a_longer_prompt_compiles_nothing_more(cat: Image.Image, graphs: GraphCounter) -> None:
    compiled = load_model("dummy:qwen2-vl-tiny", compile=True)
    compiled.model.generate(**compiled.prepare(cat, "What is this?"), max_new_tokens=3)
    n_graphs = graphs.n_graphs

    longer = compiled.prepare(photograph("text"), "What does the first line of this page say?")
    compiled.model.generate(**longer, max_new_tokens=12)

    assert (n_graphs, graphs.n_graphs) == (6 * 2, 6 * 2)
    assert graphs.n_runs == 6 * (3 + 12)


def test_every_block_is_compiled_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[object] = []

    def compile_nothing(forward: object, *, dynamic: bool, isolate_recompiles: bool) -> object:
        assert dynamic
        assert isolate_recompiles
        compiled.append(forward)
        return forward

    monkeypatch.setattr(torch, "compile", compile_nothing)

    loaded = load_model("dummy:molmoe-nano", compile=True)

    blocks = loaded.model.model.language_model.layers
    assert [forward.__self__ for forward in compiled] == list(blocks)  # type: ignore[attr-defined]


def test_a_torch_that_would_leave_blocks_uncompiled_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch, "compile", lambda forward, *, dynamic: (forward, dynamic))

    with pytest.raises(ModelNotLoaded, match=r"would run uncompiled; torch 2\.13 can"):
        load_model("dummy:llava-tiny", compile=True)


def test_a_decoder_without_blocks_is_not_compiled() -> None:
    class Whole(torch.nn.Module):
        def get_decoder(self) -> torch.nn.Module:
            return torch.nn.Linear(1, 1)

    with pytest.raises(ModelNotLoaded, match="the decoder of Whole has no list of blocks"):
        room.compile_blocks(Whole())  # type: ignore[arg-type]  # a stand-in
