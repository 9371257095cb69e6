"""Images in every form that people pass them in, and arguments that hold nothing."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import GenerationConfig, Phi4MultimodalConfig, Phi4MultimodalForCausalLM

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.arguments import find_pixels, is_empty
from pytest_vlmlatency.errors import PhasesNotFound
from tests.builders import FakeClock
from tests.measure.custom_models import (
    ASKED,
    IMAGE,
    N_PATCHES,
    PROMPT,
    WIDTH,
    Captioner,
    Images,
    measure_custom,
)

CHW = IMAGE[0]
HWC = (CHW.permute(1, 2, 0) * 255).numpy().astype("uint8")
PICTURE = Image.fromarray(HWC)


def images_in(value: object) -> Iterator[torch.Tensor]:
    """Yield each image of nested lists as a tensor of (C, H, W)."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from images_in(item)
    elif isinstance(value, torch.Tensor):
        yield value
    else:
        resized = value.resize((32, 32)) if isinstance(value, Image.Image) else value
        yield torch.tensor(np.array(resized)).permute(2, 0, 1).float() / 255


class Stacks(Captioner):
    """Makes one batch of whatever images it is given."""

    def encode(self, images: Images) -> torch.Tensor:
        return super().encode(torch.stack(list(images_in(images))))


@pytest.mark.parametrize(
    ("images", "n_images"),
    [
        ([CHW], 1),
        ((CHW, 2 * CHW), 2),
        ([[CHW, 2 * CHW], [3 * CHW]], 3),
        ([HWC, HWC // 2], 2),
        ([HWC.astype("float32")], 1),
        (PICTURE, 1),
        ([[PICTURE], [PICTURE.rotate(90)]], 2),
        ([Image.new("L", (77, 50)).convert("RGB")], 1),
    ],
    ids=["list", "tuple", "nested", "bytes", "floats", "picture", "pictures", "other size"],
)
def test_images_in_lists_are_followed_to_the_tower(
    clock: FakeClock, images: object, n_images: int
) -> None:
    case = measure_custom(Stacks(), clock, {"input_ids": PROMPT, "images": images})

    call = case.calls[0]
    assert (call.vision_ms, call.prefill_ms, call.n_vision_calls) == (71, 3, 1)
    assert (call.n_vision_tokens, call.n_text_tokens) == (n_images * N_PATCHES, 4)


class Chats(Stacks):
    def generate(self, messages: Sequence[Mapping[str, object]]) -> torch.Tensor:  # type: ignore[override]  # the point
        parts = [part for message in messages for part in message["content"]]  # type: ignore[attr-defined]  # a list
        return super().generate(PROMPT, [part["image"] for part in parts if "image" in part])


@pytest.mark.parametrize("image", [CHW, PICTURE], ids=["tensor", "picture"])
def test_images_of_a_conversation_are_found(clock: FakeClock, image: object) -> None:
    said = {"role": "user", "content": [{"type": "text", "text": "hi"}, {"image": image}]}

    call = measure_custom(Chats(), clock, {"messages": [said]}).calls[0]

    assert (call.vision_ms, call.prefill_ms) == (71, 3)


def test_a_batch_that_the_model_cuts_into_images_of_its_own_is_followed(clock: FakeClock) -> None:
    class Cuts(Captioner):
        def encode(self, images: Images) -> torch.Tensor:
            assert isinstance(images, torch.Tensor)
            corners = [images[..., :16, :16], images[..., 16:, 16:]]
            return super().encode(torch.cat(corners))

    call = measure_custom(Cuts(), clock).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.n_vision_tokens) == (71, 3, 8)


NOTHING: Mapping[str, object] = {
    "None": None,
    "a tensor": torch.tensor([]),
    "no rows": torch.empty(0, 3, 32, 32),
    "no channels": torch.empty(1, 0, 32, 32),
    "a list": [],
    "a list of lists": [[], ()],
    "a list of empty tensors": [torch.tensor([])],
    "an array": np.array([]),
    "a mapping": {"image": []},
}


@pytest.mark.parametrize("nothing", NOTHING.values(), ids=NOTHING)
@pytest.mark.parametrize("name", ["images", "pixel_values", "audio_values", "input_features"])
def test_what_is_empty_is_neither_sound_nor_pixels(
    clock: FakeClock, name: str, nothing: object
) -> None:
    class Takes(Captioner):
        def generate(self, input_ids, images=None, **others):  # type: ignore[no-untyped-def, override]
            return super().generate(input_ids)

    case = measure_custom(Takes(), clock, {"input_ids": PROMPT, name: nothing})

    assert case.labels == ("text-only",)
    assert case.calls[0].n_text_tokens == 4


def test_what_holds_something_is_not_empty() -> None:
    full = (torch.zeros(1), [torch.zeros(1), []], np.zeros(1), PICTURE, 0, "", {"a": 0}, object())

    assert [is_empty(value) for value in full] == [False] * len(full)
    assert find_pixels({"image": np.zeros((4, 4)), "other": np.zeros((4, 4))}).keys() == {"image"}


def test_a_tower_that_runs_on_no_rows_is_no_vision(clock: FakeClock) -> None:
    inputs = {"input_ids": PROMPT, "images": torch.empty(0, 3, 32, 32)}

    case = measure_custom(Captioner(), clock, inputs, delays_ms={"blocks.0": 3})

    assert case.labels == ("text-only",)
    assert (case.calls[0].vision_ms, case.calls[0].prefill_ms) == (0, 3)


class ByMethod(Captioner):
    def get_image_features(self, images: torch.Tensor) -> torch.Tensor:
        return super().encode(images)

    def get_video_features(self, videos: torch.Tensor) -> torch.Tensor:
        return super().encode(videos)

    def encode(self, images: Images) -> torch.Tensor:
        assert isinstance(images, torch.Tensor)
        parts = [self.get_image_features(images), self.get_video_features(images[:0])]
        return torch.cat(parts, dim=1)


@pytest.mark.parametrize(("n_images", "vision_ms"), [(0, 0), (1, 71)])
def test_a_feature_method_that_is_given_no_rows_is_no_vision(
    clock: FakeClock, n_images: int, vision_ms: int
) -> None:
    model = ByMethod()
    inputs = {"input_ids": PROMPT, "images": IMAGE[:n_images]}
    delays_ms = {"vision": 60, "proj": 11, "blocks.0": 3} if n_images else {"blocks.0": 3}

    if n_images:
        model.get_video_features = lambda videos: torch.empty(1, 0, 16)  # type: ignore[method-assign]
    call = measure_custom(model, clock, inputs, delays_ms=delays_ms).calls[0]

    assert (call.vision_ms, call.prefill_ms, call.n_vision_calls) == (vision_ms, 3, n_images)


def test_sound_beside_empty_images_is_still_refused(clock: FakeClock) -> None:
    class Hears(Captioner):
        def generate(self, input_ids, images=None, audio_values=None):  # type: ignore[no-untyped-def]
            return super().generate(input_ids)

    inputs = {**ASKED, "images": [], "audio_values": [torch.ones(1, 5, 8)]}

    with pytest.raises(InvalidMeasurement, match=r"^audio_values looks like sound"):
        measure_custom(Hears(), clock, inputs)


@pytest.fixture(scope="module")
def phi4() -> torch.nn.Module:
    """Return a Phi-4-multimodal that passes its images to every step, as its generate() does."""
    config = Phi4MultimodalConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=[2],
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "image_size": 32,
            "patch_size": 8,
            "crop_size": 32,
            "image_token_id": 298,
        },
        audio_config={
            "hidden_size": 32,
            "intermediate_size": 32,
            "num_blocks": 2,
            "num_attention_heads": 2,
            "audio_token_id": 299,
            "nemo_conv_channels": 32,
            "ext_pw_out_channel": 32,
            "depthwise_separable_out_channel": 32,
            "input_size": 16,
        },
    )
    torch.manual_seed(0)
    model: torch.nn.Module = Phi4MultimodalForCausalLM(config).train(mode=False)
    vars(model)["generation_config"] = GenerationConfig(  # type: ignore[no-untyped-call]
        max_new_tokens=5, do_sample=False, pad_token_id=0
    )
    return model


N_PLACES = 13
NO_SOUND = dict.fromkeys(("audio_input_features", "audio_embed_sizes"), torch.tensor([]))


@pytest.mark.parametrize("n_images", [1, 0])
@pytest.mark.parametrize("absent", [{}, NO_SOUND], ids=["not passed", "empty"])
def test_phi_4_is_measured_with_an_image_and_without(
    phi4: torch.nn.Module, absent: dict[str, torch.Tensor], n_images: int
) -> None:
    ids = torch.tensor([[5, 6, 7, *[298] * N_PLACES * n_images, 8, 9]])
    kwargs = {
        "input_ids": ids,
        "attention_mask": torch.ones_like(ids),
        "image_pixel_values": torch.ones(n_images, 2, 3, 32, 32),
        "image_sizes": torch.tensor([[32, 32]])[:n_images],
        "image_attention_mask": torch.ones(n_images, 2, 4, 4, dtype=torch.long),
    }

    case = measure_generate(phi4.generate, kwargs={**kwargs, **absent}, rounds=1)  # type: ignore[arg-type]  # a method

    call = case.calls[0]
    assert (call.n_vision_tokens, call.n_text_tokens) == (N_PLACES * n_images, 5)
    assert (call.n_vision_calls, call.vision_ms > 0) == (n_images, bool(n_images))
    assert ("text-only" in case.labels) == (not n_images)


class TakesFeatures(Captioner):
    """Is given what images were made into before, under a name of its own."""

    def generate(self, input_ids, visual, max_new_tokens=8):  # type: ignore[no-untyped-def, override]
        return super().generate(input_ids, visual, max_new_tokens)

    def encode(self, images: Images) -> torch.Tensor:
        vectors = images if isinstance(images, torch.Tensor) else torch.cat(list(images))
        return vectors.reshape(1, -1, WIDTH)


@pytest.mark.parametrize(
    "features",
    [
        torch.ones(1, 5, WIDTH),
        torch.ones(1, 1, 5, WIDTH),
        torch.ones(3, 5, WIDTH),
        [torch.ones(1, 5, WIDTH)],
    ],
    ids=["batch", "images of a batch", "images", "list"],
)
def test_features_that_no_module_works_on_before_the_blocks_are_no_pixels(
    clock: FakeClock, features: Images
) -> None:
    n_features = sum(it.numel() for it in features) // WIDTH
    inputs = {"input_ids": PROMPT, "visual": features}

    cases = [
        measure_custom(TakesFeatures(), clock, inputs, delays_ms={"blocks.0": 3}) for _ in range(2)
    ]

    for case in cases:
        call = case.calls[0]
        assert case.labels[0] == "features"
        assert (call.n_vision_tokens, call.n_text_tokens) == (n_features, PROMPT.numel())
        assert (call.vision_ms, call.prefill_ms) == (0, 3)


def test_what_is_not_as_wide_as_the_decoder_is_refused_with_the_way_out(clock: FakeClock) -> None:
    inputs = {"input_ids": PROMPT, "visual": torch.ones(1, 5, 2 * WIDTH)}

    with pytest.raises(PhasesNotFound) as caught:
        measure_custom(TakesFeatures(), clock, inputs, delays_ms={"blocks.0": 3})
    case = measure_custom(
        TakesFeatures(), clock, inputs, delays_ms={"blocks.0": 3}, phases={"vision": []}
    )

    assert "phases={'vision': []}" in str(caught.value)
    assert case.calls[0].vision_ms == 0
