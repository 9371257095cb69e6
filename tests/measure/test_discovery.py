"""Phases are watched once for a kind of call; what is remembered is right, or found anew."""

import gc
import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext

import pytest
import torch
from PIL import Image
from torch import nn
from transformers import DynamicCache, LogitsProcessor

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.discovery.cache import MAX_MAPS, Memory
from pytest_vlmlatency.measure.case import Identity
from pytest_vlmlatency.measure.run import measure_interleaved
from pytest_vlmlatency.options import Options
from pytest_vlmlatency.records import Case, Discovery, PhaseMap, Scalar
from tests.builders import FakeClock, delayed
from tests.measure.custom_models import (
    ASKED,
    IMAGE,
    IMAGES,
    PROMPT,
    WIDTH,
    Captioner,
    FromPicture,
    Images,
    KeepsPixels,
    measure_custom,
)
from tests.modes.installed import CHUNKS_BY_CALL
from tests.zoo import Specimen, build
from tests.zoo.earlier import CACHE, ENCODES_EACH_STEP, ENCODES_FIRST


def measure(specimen: Specimen, **settings: object) -> Case:
    return measure_generate(specimen.generate, kwargs={**specimen.inputs, **settings}, rounds=1)


def found(case: Case) -> Discovery:
    assert case.discovery is not None
    return case.discovery


@contextmanager
def slowed(model: nn.Module, clock: FakeClock) -> Iterator[None]:
    """Put the delays in for several cases, so that the model stays the same between them."""
    with (
        delayed(model.get_submodule("vision"), lambda: clock.advance_ms(60)),
        delayed(model.get_submodule("vision_2"), lambda: clock.advance_ms(100)),
        delayed(model.get_submodule("blocks.0"), lambda: clock.advance_ms(3)),
    ):
        yield


@pytest.mark.parametrize(
    "name",
    [
        "llava",
        "qwen2_vl",
        "mllama",
        "florence2",
        pytest.param(
            "git",
            marks=pytest.mark.skipif(
                "git" in ENCODES_EACH_STEP, reason="encodes its image in every step: refused"
            ),
        ),
        "blip-2",
    ],
)
def test_cases_of_one_kind_are_watched_once_for_all_models_that_are_alike(name: str) -> None:
    one, other = build(name), build(name, seed=1)

    cases = [measure(one), measure(one), measure(other)]

    assert [found(case).is_remembered for case in cases] == [False, True, True]
    assert cases[0].phase_map == cases[1].phase_map == cases[2].phase_map
    assert [found(case).model for case in cases] == [type(one.model).__name__] * 3
    assert all(found(case).time_ms > 0 for case in cases)


def test_a_remembered_case_makes_one_call_less(llava: Specimen) -> None:
    n_calls: list[int] = []
    tower = llava.model.get_submodule(llava.vision_path)
    tower.register_forward_hook(lambda *_: n_calls.append(1))

    measure(llava)
    n_first = len(n_calls)
    measure(llava)

    assert (n_first, len(n_calls) - n_first) == (5, 4)


def test_what_is_remembered_measures_each_delay_in_its_phase(clock: FakeClock) -> None:
    model = Captioner()
    with slowed(model, clock):
        cases = [measure_custom(model, clock, delays_ms={}) for _ in range(2)]

    assert [found(case).is_remembered for case in cases] == [False, True]
    for case in cases:
        call = case.calls[0]
        assert (call.vision_ms, call.prefill_ms, call.decode_ms) == (60, 3, 21)
        assert (call.n_vision_calls, call.n_vision_tokens, call.n_text_tokens) == (1, 16, 4)


@pytest.mark.parametrize(
    "change",
    [
        {"input_ids": torch.tensor([[1, 2, 3, 4, 5, 6, 7]])},
        {"images": 2 * IMAGE},
        {"max_new_tokens": 5},
    ],
    ids=["a longer text", "another image", "fewer tokens"],
)
def test_neither_length_nor_values_decide(change: Mapping[str, object], clock: FakeClock) -> None:
    model = Captioner()
    with slowed(model, clock):
        measure_custom(model, clock, delays_ms={})
        case = measure_custom(model, clock, {**ASKED, **change}, delays_ms={})

    assert found(case).is_remembered
    assert (case.calls[0].vision_ms, case.calls[0].prefill_ms) == (60, 3)


@pytest.mark.parametrize(
    "change",
    [
        {"images": IMAGES},
        {"images": IMAGE[..., :24]},
        {"images": IMAGE.double().float()[:, :, :24]},
        {"input_ids": PROMPT.to(torch.int32)},
    ],
    ids=["more images", "narrower", "lower", "another dtype"],
)
def test_what_decides_makes_another_kind(change: Mapping[str, object]) -> None:
    model = Captioner()
    measure_generate(model.generate, kwargs=ASKED, rounds=1)

    case = measure_generate(model.generate, kwargs={**ASKED, **change}, rounds=1)

    assert not found(case).is_remembered


@pytest.mark.parametrize(
    "settings",
    [
        {"num_beams": 2},
        {"do_sample": True},
        pytest.param(
            {"use_cache": False},
            marks=pytest.mark.skipif(
                not ENCODES_FIRST, reason="encodes in every step without a cache: refused"
            ),
        ),
        pytest.param(
            {"prefill_chunk_size": 13},
            marks=pytest.mark.skipif(
                not CHUNKS_BY_CALL, reason="chunks run past the model's call: refused"
            ),
        ),
        {CACHE: "filled"},
    ],
    ids=["beams", "sampling", "no cache", "chunks", "a second turn"],
)
def test_a_setting_that_decides_makes_another_kind(
    settings: Mapping[str, object], llava: Specimen
) -> None:
    measure(llava)

    if CACHE in settings:
        case = measure_generate(llava.generate, setup=lambda: second_turn(llava), rounds=1)
    else:
        case = measure(llava, **settings)

    assert not found(case).is_remembered


def second_turn(llava: Specimen) -> tuple[tuple[()], dict[str, object]]:
    cache = DynamicCache()
    said = llava.generate(**llava.inputs, **{CACHE: cache})
    prompt = torch.cat([said, torch.tensor([[5, 6, 7]])], dim=1)
    mask = torch.ones_like(prompt)
    return (), {"input_ids": prompt, "attention_mask": mask, CACHE: cache}


def test_modes_of_torch_that_decide_make_another_kind() -> None:
    model = Captioner()
    measure_generate(model.generate, kwargs=ASKED, rounds=1)

    with torch.inference_mode():
        case = measure_generate(model.generate, kwargs=ASKED, rounds=1)

    assert not found(case).is_remembered


def test_a_prompt_of_one_token_is_another_kind() -> None:
    """A model may read one token as a step, and several as a prompt."""
    model = Captioner()
    measure_generate(model.generate, kwargs=ASKED, rounds=1)

    case = measure_generate(model.generate, kwargs={**ASKED, "input_ids": PROMPT[:, :1]}, rounds=1)

    assert not found(case).is_remembered


def test_text_alone_is_another_kind(llava: Specimen) -> None:
    measure(llava)

    case = measure_generate(llava.generate, kwargs=llava.text_inputs, rounds=1)

    assert not found(case).is_remembered
    assert found(case).inputs == "text alone, greedy"


def test_another_way_of_naming_phases_is_another_kind(llava: Specimen) -> None:
    measure(llava)
    named = {"vision": [llava.vision_path, llava.projector_path or ""]}

    cases = [
        measure_generate(llava.generate, kwargs=llava.inputs, rounds=1, phases=named)
        for _ in range(2)
    ]

    assert [found(case).is_remembered for case in cases] == [False, True]


class Bare(LogitsProcessor):
    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        return scores


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"logits_processor": [Bare()]}, "logits_processor holds a Bare"),
        (
            {"prefix_allowed_tokens_fn": lambda *_: list(range(5, 99))},
            "prefix_allowed_tokens_fn ",
        ),
        ({"cache_implementation": "static"}, "it may be compiled, and must not be with hooks"),
    ],
    ids=["object", "function", "static cache"],
)
def test_what_cannot_be_told_is_watched_each_time_and_said(
    settings: Mapping[str, object], reason: str, llava: Specimen
) -> None:
    cases = [measure(llava, **settings) for _ in range(2)]

    assert [found(case).is_remembered for case in cases] == [False, False]
    assert found(cases[1]).not_kept_because.startswith(reason)


def test_pictures_are_told_by_their_size(clock: FakeClock) -> None:
    model = FromPicture()
    named = {"vision": ["vision", "proj"]}
    sizes = [(32, 32), (32, 32), (48, 32)]

    cases = [
        measure_generate(
            model.generate,
            kwargs={"prompt": "What is it?", "image": Image.new("RGB", size)},
            rounds=1,
            phases=named,
        )
        for size in sizes
    ]

    assert [found(case).is_remembered for case in cases] == [False, True, False]


IS_SHARP = [False]


def encode_both(self: Captioner, images: Images) -> torch.Tensor:
    both = torch.cat([self.vision(images), self.vision_2(images)], dim=1)
    return both.reshape(1, -1, WIDTH)


class SharpByGlobal(Captioner):
    """Encodes by a second tower, too, while a global says so: nothing in the model tells."""

    def encode(self, images: Images) -> torch.Tensor:
        features = super().encode(images)
        if not IS_SHARP[0]:
            return features
        return torch.cat([features, self.vision_2(images).reshape(1, -1, WIDTH)], dim=1)


def test_a_tower_that_a_global_adds_is_seen_in_the_rehearsal(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = SharpByGlobal()
    with slowed(model, clock):
        before = measure_custom(model, clock, delays_ms={}).calls[0]
        monkeypatch.setattr(sys.modules[__name__], "IS_SHARP", [True])
        case = measure_custom(model, clock, delays_ms={})

    assert (before.vision_ms, before.prefill_ms) == (60, 3)
    assert (case.calls[0].vision_ms, case.calls[0].prefill_ms) == (60 + 100, 3)
    assert not found(case).is_remembered


def test_a_tower_that_a_closure_takes_away_is_seen_in_the_rehearsal(clock: FakeClock) -> None:
    towers = ["vision", "vision_2"]

    class ByClosure(Captioner):
        def encode(self, images: Images) -> torch.Tensor:
            parts = [self.get_submodule(tower)(images) for tower in towers]
            return torch.cat(parts, dim=1).reshape(1, -1, WIDTH)

    model = ByClosure()
    with slowed(model, clock):
        before = measure_custom(model, clock, delays_ms={}).calls[0]
        towers.pop()
        case = measure_custom(model, clock, delays_ms={})

    assert (before.vision_ms, case.calls[0].vision_ms) == (160, 60)
    assert not found(case).is_remembered


def test_a_method_replaced_in_the_class_is_seen_in_the_rehearsal(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(Captioner):
        pass

    model = Plain()
    with slowed(model, clock):
        measure_custom(model, clock, delays_ms={})
        monkeypatch.setattr(Plain, "encode", encode_both)
        case = measure_custom(model, clock, delays_ms={})

    assert case.calls[0].vision_ms == 160
    assert not found(case).is_remembered


def test_vision_that_a_global_repeats_in_every_step_is_refused_by_name() -> None:
    again: list[Callable[[KeepsPixels, torch.Tensor], object]] = [lambda model, pixels: None]
    model = KeepsPixels(lambda model, pixels: again[0](model, pixels))
    measure_generate(model.generate, kwargs=ASKED, rounds=1)

    again[0] = lambda model, pixels: model.vision_2(pixels)

    with pytest.raises(InvalidMeasurement, match=r"^vision_2 worked on the pixels again in decode"):
        measure_generate(model.generate, kwargs=ASKED, rounds=1)


def test_one_token_after_eight_is_right_though_it_cannot_be_borne_out(
    llava: Specimen,
) -> None:
    measure(llava)

    case = measure(llava, max_new_tokens=1)

    assert (case.calls[0].n_output_tokens, case.calls[0].n_vision_calls) == (1, 1)
    assert not found(case).is_remembered


def test_a_case_that_was_refused_is_not_remembered() -> None:
    model = KeepsPixels(lambda model, pixels: model.vision(pixels))
    with pytest.raises(InvalidMeasurement, match="again in decode"):
        measure_generate(model.generate, kwargs=ASKED, rounds=1)
    model.again = lambda model, pixels: None

    assert not found(measure_generate(model.generate, kwargs=ASKED, rounds=1)).is_remembered


def test_a_remembered_case_leaves_the_model_as_it_was(llava: Specimen) -> None:
    measure(llava)
    before = llava.generate(**llava.inputs)
    attributes = {path: dict(vars(module)) for path, module in llava.model.named_modules()}
    hooks = [dict(module._forward_hooks) for module in llava.model.modules()]

    assert found(measure(llava)).is_remembered

    assert {path: dict(vars(module)) for path, module in llava.model.named_modules()} == attributes
    assert [dict(module._forward_hooks) for module in llava.model.modules()] == hooks
    assert torch.equal(llava.generate(**llava.inputs), before)


def test_an_exception_in_a_remembered_cases_rehearsal_leaves_no_hooks(llava: Specimen) -> None:
    n_left = 7 + 2  # the calls of the first case, two unmeasured ones of the second
    tower = llava.model.get_submodule(llava.vision_path)

    def fail(*_: object) -> None:
        nonlocal n_left
        n_left -= 1
        if n_left < 0:
            raise ZeroDivisionError

    tower.register_forward_hook(fail)
    measure_generate(llava.generate, kwargs=llava.inputs, rounds=3)
    hooks = [len(module._forward_pre_hooks) for module in llava.model.modules()]

    with pytest.raises(ZeroDivisionError):
        measure(llava)

    assert [len(module._forward_pre_hooks) for module in llava.model.modules()] == hooks
    assert "generate" not in vars(llava.model)


class Sharpness:
    """A knob that adds a tower."""

    def __init__(self, *, is_sharp: bool) -> None:
        self._is_sharp = is_sharp

    def values(self) -> Mapping[str, Scalar]:
        return {"sharp": self._is_sharp}

    def apply(self, model: object) -> AbstractContextManager[object]:
        IS_SHARP[0] = self._is_sharp
        return nullcontext()

    def read_back(self, model: object) -> Mapping[str, Scalar]:
        return {"sharp": IS_SHARP[0]}


def test_configurations_measured_in_turn_have_phases_of_their_own(clock: FakeClock) -> None:
    model = SharpByGlobal()
    identity = Identity(id="x", name="x")
    configs = [Sharpness(is_sharp=False), Sharpness(is_sharp=True), Sharpness(is_sharp=False)]
    with slowed(model, clock):
        cases = [
            measured.case
            for measured in measure_interleaved(
                model.generate,
                kwargs=ASKED,
                configs=configs,
                options=Options(rounds=2),
                identity=identity,
                clock=clock,
            )
        ]

    assert [case.calls[0].vision_ms for case in cases] == [60, 160, 60]
    assert [found(case).is_remembered for case in cases] == [False, False, True]


def test_two_models_in_turn_are_watched_once_each() -> None:
    llava, mllama = build("llava"), build("mllama")

    cases = [measure(specimen) for specimen in (llava, mllama, llava, mllama)]

    assert [found(case).is_remembered for case in cases] == [False, False, True, True]


def test_no_model_is_held_by_what_is_remembered() -> None:
    model = Captioner()
    measure_generate(model.generate, kwargs=ASKED, rounds=1)
    gone = weakref.ref(model)

    del model
    gc.collect()

    assert gone() is None


def a_map(step: str) -> PhaseMap:
    return PhaseMap(
        step=step,
        blocks=("blocks.0",),
        feature_owners=(),
        vision=(),
        text_encoder=(),
        vision_runs="never",
        has_step_preparation=False,
        prompt_end="",
        vision_calls={},
    )


def test_the_map_used_longest_ago_is_forgotten_first() -> None:
    memory = Memory()
    for number in range(MAX_MAPS):
        memory.keep((number,), a_map(str(number)))

    memory.recall((0,))
    memory.keep(("new",), a_map("new"))

    assert memory.recall((0,)) == a_map("0")
    assert memory.recall((1,)) is None
    assert memory.recall(None) is None
