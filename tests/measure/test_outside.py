"""Vision that the measured function runs around generate() is shown as its own phase, or left out.

Whatever the function runs beside it is `outside`, and "text-only" is said where no image can be.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import cast

import pytest
import torch
from transformers import DynamicCache

from pytest_vlmlatency import InvalidMeasurement, measure_generate, span
from pytest_vlmlatency.calls.recorder import RESERVED
from pytest_vlmlatency.records import VISION_OUTSIDE, WALL, Case, Place
from pytest_vlmlatency.records.rounds import rounds_of
from tests.builders import FakeClock, delayed
from tests.measure.assistants import small_language_model
from tests.measure.custom_models import ASKED, IMAGE, PROMPT, WIDTH, Captioner, Tower
from tests.zoo import Specimen, block_modules, build, vision_module
from tests.zoo.earlier import CACHE

TOWER_MS, PROJECTOR_MS, BLOCK_MS = 60, 11, 3
Chat = Callable[[], object]


@pytest.fixture
def slow(llava: Specimen, clock: FakeClock) -> Iterator[Specimen]:
    """LLaVA with 60 ms in its tower, 11 ms in its projector, 3 ms in a block."""
    projector = llava.model.get_submodule("model.multi_modal_projector")
    delays = {vision_module(llava): TOWER_MS, projector: PROJECTOR_MS}
    with ExitStack() as undo:
        for module, delay_ms in {**delays, block_modules(llava)[0]: BLOCK_MS}.items():
            undo.enter_context(delayed(module, partial(clock.advance_ms, delay_ms)))
        yield llava


def measured(specimen: Specimen, chat: Chat, clock: FakeClock, *, rounds: int = 2) -> Case:
    return measure_generate(chat, model=specimen.model, rounds=rounds, clock=clock)


def vision_outside_ms(case: Case) -> list[float]:
    return [call.phase_time(VISION_OUTSIDE, WALL) for call in case.calls]


def embedded(specimen: Specimen) -> torch.Tensor:
    embed = cast("torch.nn.Module", specimen.model.get_input_embeddings())  # type: ignore[operator]  # a method
    return cast("torch.Tensor", embed(specimen.inputs["input_ids"])).detach().clone()


def merged(specimen: Specimen, features: torch.Tensor) -> torch.Tensor:
    embeds = embedded(specimen)
    is_image = specimen.inputs["input_ids"] == specimen.config.image_token_id
    embeds[is_image] = features.reshape(-1, embeds.shape[-1])[: int(is_image.sum())]
    return embeds


def features_by_method(specimen: Specimen) -> torch.Tensor:
    found = specimen.model.get_image_features(specimen.pixels)  # type: ignore[operator]  # a method
    found = getattr(found, "pooler_output", found)
    return found if isinstance(found, torch.Tensor) else torch.cat(list(found))


def features_by_modules(specimen: Specimen) -> torch.Tensor:
    states = vision_module(specimen)(specimen.pixels).last_hidden_state[:, 1:]
    projector = specimen.model.get_submodule("model.multi_modal_projector")
    return cast("torch.Tensor", projector(states))


def answer(specimen: Specimen, embeds: torch.Tensor) -> torch.Tensor:
    return specimen.generate(inputs_embeds=embeds, attention_mask=specimen.inputs["attention_mask"])


def lately(model: torch.nn.Module) -> Callable[..., object]:
    """Return a function that calls the generate() that the model has by then."""
    return lambda **inputs: model.generate(**inputs)  # type: ignore[operator]  # a method


@pytest.mark.parametrize("encode", [features_by_method, features_by_modules])
@pytest.mark.parametrize("n_images", [1, 3])
def test_vision_before_generate_is_a_phase_of_the_function(
    slow: Specimen,
    clock: FakeClock,
    encode: Callable[[Specimen], torch.Tensor],
    n_images: int,
) -> None:
    @torch.no_grad()
    def chat() -> object:
        features = [encode(slow) for _ in range(n_images)]
        return answer(slow, merged(slow, features[0]))

    case = measured(slow, chat, clock)

    call = case.calls[0]
    assert vision_outside_ms(case) == [n_images * (TOWER_MS + PROJECTOR_MS)] * 2
    assert call.outside_ms == n_images * (TOWER_MS + PROJECTOR_MS)
    assert (call.vision_ms, call.prefill_ms, call.total_ms) == (0, BLOCK_MS, 8 * BLOCK_MS)
    assert case.labels == ("embeds", "vision-outside")
    assert rounds_of(case).times_ms[VISION_OUTSIDE] == tuple(vision_outside_ms(case))


def test_a_tower_of_flat_patches_that_is_called_directly_is_vision(clock: FakeClock) -> None:
    qwen = build("qwen2_vl")
    tower = vision_module(qwen)

    @torch.no_grad()
    def chat() -> object:
        tower(qwen.pixels, grid_thw=qwen.inputs["image_grid_thw"])
        return answer(qwen, embedded(qwen))

    with (
        delayed(tower, lambda: clock.advance_ms(TOWER_MS)),
        delayed(block_modules(qwen)[0], lambda: clock.advance_ms(BLOCK_MS)),
    ):
        case = measured(qwen, chat, clock)

    assert vision_outside_ms(case) == [TOWER_MS] * 2


def test_an_encoder_that_is_no_part_of_the_model_is_vision(clock: FakeClock) -> None:
    tower, projector, model = Tower(), torch.nn.Linear(WIDTH, 32), small_language_model(50)
    generate = lately(model)

    @torch.no_grad()
    def chat() -> object:
        features = projector(tower(IMAGE))
        words = model.get_input_embeddings()(torch.tensor([[1, 2]]))
        return generate(inputs_embeds=torch.cat([features, words], 1), max_new_tokens=4)

    with (
        delayed(tower, lambda: clock.advance_ms(TOWER_MS)),
        delayed(projector, lambda: clock.advance_ms(PROJECTOR_MS)),
        delayed(model.model.layers[0], lambda: clock.advance_ms(BLOCK_MS)),
    ):
        case = measure_generate(chat, model=model, rounds=1, clock=clock)

    assert vision_outside_ms(case) == [TOWER_MS + PROJECTOR_MS]
    assert "text-only" not in case.labels


def test_vision_before_generate_and_again_inside_is_shown_in_both_places(
    slow: Specimen, clock: FakeClock
) -> None:
    def chat() -> object:
        features_by_method(slow)
        return slow.generate(**slow.inputs)

    case = measured(slow, chat, clock)

    assert vision_outside_ms(case) == [TOWER_MS + PROJECTOR_MS] * 2
    assert case.calls[0].vision_ms == TOWER_MS + PROJECTOR_MS
    assert case.labels == ("vision-outside",)


def test_a_span_around_vision_outside_holds_it(slow: Specimen, clock: FakeClock) -> None:
    def chat() -> object:
        with torch.no_grad(), span("encode"):
            clock.advance_ms(5)
            embeds = merged(slow, features_by_method(slow))
        return answer(slow, embeds)

    case = measured(slow, chat, clock)

    assert vision_outside_ms(case) == [TOWER_MS + PROJECTOR_MS] * 2
    assert case.calls[0].phase_time("encode", WALL) == 5 + TOWER_MS + PROJECTOR_MS


def test_the_name_of_vision_outside_is_no_users() -> None:
    assert VISION_OUTSIDE in RESERVED


def test_features_made_before_the_function_are_in_no_phase_and_not_called_text(
    slow: Specimen, clock: FakeClock
) -> None:
    with torch.no_grad():
        embeds = merged(slow, features_by_method(slow))

    case = measured(slow, lambda: answer(slow, embeds), clock)

    assert vision_outside_ms(case) == [0, 0]
    assert case.labels == ("embeds",)


def test_features_that_the_function_keeps_are_in_no_round(slow: Specimen, clock: FakeClock) -> None:
    kept: list[torch.Tensor] = []

    @torch.no_grad()
    def chat() -> object:
        if len(kept) < 2:
            kept.append(features_by_method(slow))
        return answer(slow, merged(slow, kept[0]))

    case = measured(slow, chat, clock)

    assert vision_outside_ms(case) == [0, 0]
    assert case.labels == ("embeds",)


def test_rounds_of_which_some_encode_an_image_are_refused(slow: Specimen, clock: FakeClock) -> None:
    n_calls = 0

    @torch.no_grad()
    def chat() -> object:
        nonlocal n_calls
        n_calls += 1
        if n_calls != 6:
            features_by_method(slow)
        return answer(slow, embedded(slow))

    with pytest.raises(InvalidMeasurement, match=r"runs of vision around generate\(\): 1 then 0"):
        measured(slow, chat, clock)


def test_the_models_own_forward_by_hand_shows_its_vision(slow: Specimen, clock: FakeClock) -> None:
    @torch.no_grad()
    def chat() -> object:
        cache = DynamicCache(config=slow.config)
        slow.model(**slow.inputs, **{CACHE: cache})
        ids = torch.cat([slow.inputs["input_ids"], torch.tensor([[5, 6]])], 1)
        return slow.generate(input_ids=ids, attention_mask=torch.ones_like(ids), **{CACHE: cache})

    case = measured(slow, chat, clock)

    assert vision_outside_ms(case) == [TOWER_MS + PROJECTOR_MS] * 2
    assert case.calls[0].outside_ms == TOWER_MS + PROJECTOR_MS + BLOCK_MS
    assert case.labels == ("continued", "vision-outside")


def test_vision_inside_a_forward_by_hand_is_shown_too(clock: FakeClock) -> None:
    model = Captioner()
    delays_ms = {"vision": TOWER_MS, "proj": PROJECTOR_MS, "blocks.0": BLOCK_MS, "lm_head": 2}

    @torch.no_grad()
    def chat() -> object:
        model(**ASKED)
        return model.generate(PROMPT)

    with ExitStack() as undo:
        for path, delay_ms in delays_ms.items():
            delay = partial(clock.advance_ms, delay_ms)
            undo.enter_context(delayed(model.get_submodule(path), delay))
        case = measure_generate(chat, model=model, rounds=1, clock=clock)

    assert vision_outside_ms(case) == [TOWER_MS + PROJECTOR_MS]
    assert case.calls[0].outside_ms == TOWER_MS + PROJECTOR_MS + BLOCK_MS + 2


@pytest.mark.parametrize(
    ("vision", "expected_ms"),
    [
        ([], 0),
        (["model.vision_tower"], TOWER_MS),
        (["model.get_image_features"], TOWER_MS + PROJECTOR_MS),
    ],
)
def test_vision_that_is_named_is_what_counts_around_generate_too(
    slow: Specimen, clock: FakeClock, vision: list[str], expected_ms: int
) -> None:
    @torch.no_grad()
    def chat() -> object:
        return answer(slow, merged(slow, features_by_method(slow)))

    case = measure_generate(
        chat, model=slow.model, rounds=1, clock=clock, phases={"vision": vision}
    )

    assert vision_outside_ms(case) == [expected_ms]


def test_a_text_encoder_by_hand_is_no_vision(clock: FakeClock) -> None:
    specimen = build("florence2")
    assert specimen.text_encoder_path is not None
    encoder = specimen.model.get_submodule(specimen.text_encoder_path)

    @torch.no_grad()
    def chat() -> object:
        embeds = merged(specimen, features_by_method(specimen))
        encoded = encoder(inputs_embeds=embeds, attention_mask=specimen.inputs["attention_mask"])
        return specimen.generate(
            encoder_outputs=encoded, attention_mask=specimen.inputs["attention_mask"]
        )

    with (
        delayed(vision_module(specimen), lambda: clock.advance_ms(TOWER_MS)),
        delayed(encoder, lambda: clock.advance_ms(20)),
        delayed(block_modules(specimen)[0], lambda: clock.advance_ms(BLOCK_MS)),
    ):
        case = measured(specimen, chat, clock)

    assert vision_outside_ms(case) == [TOWER_MS] * 2
    assert case.calls[0].outside_ms == TOWER_MS + 20
    assert "text-only" not in case.labels


def rerank(specimen: Specimen, clock: FakeClock, answered: torch.Tensor) -> None:
    judge = small_language_model(300)
    judge.register_forward_pre_hook(lambda *_: clock.advance_ms(40))
    judge(answered)


def score(specimen: Specimen, clock: FakeClock, answered: torch.Tensor) -> None:
    head = specimen.model.get_submodule("lm_head")
    clock.advance_ms(40)
    head(torch.zeros(1, len(answered[0]), 64))


def read(specimen: Specimen, clock: FakeClock, _answered: torch.Tensor) -> None:
    clock.advance_ms(40)
    embedded(specimen)


@pytest.mark.parametrize("after", [rerank, score, read])
def test_work_around_a_call_with_text_alone_is_no_vision(
    slow: Specimen, clock: FakeClock, after: Callable[[Specimen, FakeClock, torch.Tensor], None]
) -> None:
    assert slow.text_inputs is not None
    inputs = slow.text_inputs

    @torch.no_grad()
    def chat() -> object:
        after(slow, clock, inputs["input_ids"])
        answered = slow.generate(**inputs)
        after(slow, clock, answered)
        return answered

    case = measured(slow, chat, clock)

    assert vision_outside_ms(case) == [0, 0]
    assert case.calls[0].outside_ms == 80
    assert case.labels == ("text-only",)


def places(case: Case) -> set[tuple[str, Place]]:
    return {(one.name, one.place) for one in case.calls[0].spans}


def test_an_encoder_of_other_embeddings_than_pixels_is_shown_where_generate_takes_them(
    clock: FakeClock,
) -> None:
    """Patches that the user cut: three dimensions, as any states have."""
    model, tower = small_language_model(50), torch.nn.Linear(12, 32)
    generate = lately(model)

    @torch.no_grad()
    def chat() -> object:
        embeds = tower(torch.ones(1, 9, 12))
        return generate(inputs_embeds=embeds, min_new_tokens=4, max_new_tokens=4)

    with delayed(model.model.layers[0], lambda: clock.advance_ms(BLOCK_MS)):
        case = measure_generate(chat, model=model, rounds=1, clock=clock)

    assert (VISION_OUTSIDE, Place.OUTSIDE) in places(case)


@contextmanager
def unchanged(model: torch.nn.Module) -> Iterator[None]:
    def state() -> Sequence[object]:
        return [
            (path, sorted(vars(part)), len(part._forward_hooks), len(part._forward_pre_hooks))
            for path, part in model.named_modules()
        ]

    before = state()
    yield
    assert state() == before


def test_watching_around_generate_leaves_nothing_behind(llava: Specimen) -> None:
    @torch.no_grad()
    def chat() -> object:
        return answer(llava, merged(llava, features_by_method(llava)))

    chat()
    with unchanged(llava.model):
        measure_generate(chat, model=llava.model, rounds=1)
    assert not torch.nn.modules.module._global_forward_pre_hooks
    assert not torch.nn.modules.module._global_forward_hooks


def test_an_error_of_the_function_leaves_nothing_behind(llava: Specimen) -> None:
    n_calls = 0

    def chat() -> object:
        nonlocal n_calls
        n_calls += 1
        features_by_method(llava)
        if n_calls == 2:
            raise LookupError
        return llava.generate(**llava.inputs)

    chat()
    n_calls = 0
    with unchanged(llava.model), pytest.raises(LookupError):
        measure_generate(chat, model=llava.model, rounds=1)
    assert not torch.nn.modules.module._global_forward_pre_hooks
