"""A second prompt inside one generate(): refused whatever runs it, unless drafting explains it.

Each model returns text, so that no count of tokens gives the second prompt away.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.calls.generation import Mode
from pytest_vlmlatency.discovery.one_prompt import find_second_prompt
from pytest_vlmlatency.errors import InvalidMeasurement, VlmLatencyError
from pytest_vlmlatency.records import Case
from tests.builders import FakeClock, delayed
from tests.measure.assistants import small_language_model
from tests.measure.custom_models import Captioner, Images, measure_custom
from tests.modes.installed import CHUNKS_BY_CALL
from tests.zoo import Inputs, Specimen, block_modules
from tests.zoo.earlier import CACHE, ENCODES_FIRST

N_WORDS = 300
QUESTION = torch.tensor([[21, 22, 23]])


def measure(generate: Callable[..., object], specimen: Specimen, **settings: object) -> Case:
    """Measure with 3 ms in a block of the specimen."""
    clock = FakeClock()
    kwargs = {**specimen.inputs, **settings}
    with delayed(block_modules(specimen)[0], lambda: clock.advance_ms(3)):
        return measure_generate(generate, kwargs=kwargs, rounds=1, clock=clock)


def text_of(ids: torch.Tensor) -> list[str]:
    return [" ".join(map(str, row)) for row in ids.tolist()]


class Cascade(nn.Module):
    """A vision-language model, and a language model that goes on from what it gave."""

    def __init__(self, llava: Specimen, *, is_part: bool = True, n_first: int = 8) -> None:
        super().__init__()
        self.vlm: Any = llava.model
        self.n_first = n_first
        self.held: list[Any] = [small_language_model(N_WORDS)]
        if is_part:
            self.reader = self.held[0]

    @torch.no_grad()
    def generate(self, **inputs: torch.Tensor) -> list[str]:
        ids = self.vlm.generate(**inputs, max_new_tokens=self.n_first)
        return text_of(self.answer(torch.cat([ids[:, -self.n_first :], QUESTION], dim=1)))

    def answer(self, ids: torch.Tensor) -> torch.Tensor:
        return self.held[0].generate(input_ids=ids, max_new_tokens=5)  # type: ignore[no-any-return]


class OwnLoop(Cascade):
    """Answers by a loop of its own, without generate()."""

    def answer(self, ids: torch.Tensor) -> torch.Tensor:
        cache, given = None, ids
        for _ in range(5):
            output = self.held[0](input_ids=given, **{CACHE: cache}, use_cache=True)
            cache, given = output.past_key_values, output.logits[:, -1:].argmax(-1)
            ids = torch.cat([ids, given], dim=1)
        return ids


class BySelf(OwnLoop):
    """Asks the vision-language model itself again, in words alone, by a loop of its own."""

    def answer(self, ids: torch.Tensor) -> torch.Tensor:
        self.held = [self.vlm]
        return super().answer(ids)


@pytest.mark.parametrize("n_first", [1, 2, 8])
@pytest.mark.parametrize("is_part", [True, False], ids=["part", "outside"])
@pytest.mark.parametrize("kind", [Cascade, OwnLoop])
def test_another_model_that_goes_on_from_the_first_is_refused(
    kind: type[Cascade], *, is_part: bool, n_first: int, llava: Specimen
) -> None:
    cascade = kind(llava, is_part=is_part, n_first=n_first).train(mode=False)

    with pytest.raises(VlmLatencyError, match=r"several prompts|the prompt's alone"):
        measure(cascade.generate, llava)


@pytest.mark.parametrize("n_first", [1, 8])
def test_the_same_model_in_a_loop_of_its_own_afterwards_is_refused(
    n_first: int, llava: Specimen
) -> None:
    cascade = BySelf(llava, n_first=n_first).train(mode=False)

    with pytest.raises(InvalidMeasurement, match="several prompts"):
        measure(cascade.generate, llava)


def again_by_super(model: Any, inputs: Inputs) -> list[str]:
    rationale = model.once(**inputs)[:, -8:]
    return text_of(model.once(input_ids=rationale))


def again_by_itself(model: Any, inputs: Inputs) -> list[str]:
    if "pixel_values" not in inputs:
        return text_of(model.once(**inputs))
    rationale = model.once(**inputs)[:, -8:]
    answer: list[str] = model.generate(input_ids=rationale)
    return answer


def where_the_first_ended(model: Any, inputs: Inputs) -> list[str]:
    """Go on from the whole output of the first: as wide as its next step would have been."""
    ids = model.once(**inputs)
    return text_of(model.once(input_ids=ids, pixel_values=inputs["pixel_values"]))


def generating_by(ask: Callable[[Any, Inputs], list[str]], llava: Specimen) -> Any:
    """Return the model with a generate() of its own that asks so."""
    kind: Any = type(llava.model)

    class Twice(kind):  # type: ignore[misc]  # of any class
        def once(self, **inputs: torch.Tensor) -> torch.Tensor:
            return super().generate(**inputs)  # type: ignore[no-any-return]

        def generate(self, **inputs: torch.Tensor) -> list[str]:
            return ask(self, inputs)

    llava.model.__class__ = Twice
    return llava.model


@pytest.mark.parametrize("ask", [again_by_super, again_by_itself, where_the_first_ended])
def test_the_same_model_that_generates_twice_is_refused(
    ask: Callable[[Any, Inputs], list[str]], llava: Specimen
) -> None:
    model = generating_by(ask, llava)

    with pytest.raises(InvalidMeasurement, match="several prompts"):
        measure(model.generate, llava)


class Talker(Captioner):
    """Reads its own words aloud by blocks of their own, each given what the last one gave."""

    def __init__(self) -> None:
        super().__init__()
        self.talker = Captioner()

    def generate(  # type: ignore[override]  # returns text
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> list[str]:
        words = super().generate(input_ids, images, max_new_tokens)
        spoken = [self.talker(words).logits[:, -1].argmax(-1, keepdim=True)]
        for _ in range(6):
            spoken.append(self.talker(spoken[-1]).logits[:, -1].argmax(-1, keepdim=True))
        return text_of(torch.cat(spoken, dim=1))


class SecondThought(Captioner):
    """Asks itself again in words alone, without logits as an attribute."""

    def generate(  # type: ignore[override]  # returns text
        self, input_ids: torch.Tensor, images: Images | None = None, max_new_tokens: int = 8
    ) -> list[str]:
        first = super().generate(input_ids, images, max_new_tokens)
        return text_of(Captioner.generate(self, first[:, -6:], None, max_new_tokens))


@pytest.mark.parametrize("kind", [Talker, SecondThought])
def test_a_second_loop_of_a_model_of_ones_own_is_refused(
    kind: type[Captioner], clock: FakeClock
) -> None:
    with pytest.raises(InvalidMeasurement, match="several prompts"):
        measure_custom(kind(), clock)


def test_a_second_prompt_of_one_token_is_refused(llava: Specimen) -> None:
    class FromOneToken(nn.Module):
        """Goes on from one token, which nothing but its empty cache tells from a step."""

        def __init__(self) -> None:
            super().__init__()
            self.vlm: Any = llava.model

        @torch.no_grad()
        def generate(self, **inputs: Any) -> list[str]:
            words: list[torch.Tensor] = []
            for prompt in (inputs, {"input_ids": QUESTION[:, :1]}):
                cache, given = None, prompt
                for _ in range(4):
                    output = self.vlm(**given, **{CACHE: cache}, use_cache=True)
                    words.append(output.logits[:, -1:].argmax(-1))
                    cache, given = output.past_key_values, {"input_ids": words[-1]}
            return text_of(torch.cat(words, dim=1))

    with pytest.raises(InvalidMeasurement, match="an empty cache again"):
        measure(FromOneToken().train(mode=False).generate, llava)


def test_a_draft_model_of_an_inner_generate_is_no_second_prompt(llava: Specimen) -> None:
    class Drafting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.vlm: Any = llava.model
            self.held = [small_language_model(N_WORDS)]

        def generate(self, **inputs: torch.Tensor) -> list[str]:
            return text_of(self.vlm.generate(**inputs, assistant_model=self.held[0]))

    case = measure(Drafting().generate, llava)

    assert case.labels == ("assisted",)


WITHOUT_CACHE = pytest.mark.skipif(
    not ENCODES_FIRST, reason="this transformers encodes anew without a cache: refused"
)


@pytest.mark.parametrize(
    "settings",
    [
        {"guidance_scale": 2.0, "negative_prompt_ids": QUESTION},
        pytest.param(
            {"guidance_scale": 2.0, "negative_prompt_ids": QUESTION, "use_cache": False},
            marks=WITHOUT_CACHE,
        ),
        pytest.param({"use_cache": False}, marks=WITHOUT_CACHE),
        {"prompt_lookup_num_tokens": 2},
        {"num_beams": 3, "num_return_sequences": 2},
        pytest.param(
            {"prefill_chunk_size": 10},
            marks=pytest.mark.skipif(
                not CHUNKS_BY_CALL, reason="this transformers cannot prefill an image in chunks"
            ),
        ),
    ],
    ids=lambda settings: "+".join(settings),
)
def test_guidance_drafts_beams_and_chunks_are_no_second_prompt(
    settings: dict[str, object], llava: Specimen
) -> None:
    case = measure(llava.generate, llava, **settings)

    assert case.calls[0].n_output_tokens == 8


@pytest.mark.parametrize(
    ("lengths", "second"),
    [
        ([20, 1, 1, 1], None),
        ([20, 21, 22], None),
        ([30, 31, 32, 32, 32], None),
        ([1, 1, 1], None),
        ([20, 1, 1, 9, 1], 3),
        ([20, 9, 1, 1], 1),
        ([20, 21, 22, 9, 10], 3),
        ([1, 2, 3, 1, 2], 3),
    ],
)
def test_a_second_prompt_shows_in_the_positions_of_each_forward(
    lengths: list[int], second: int | None
) -> None:
    assert find_second_prompt(lengths) == second


def test_guidance_explains_one_more_prompt_and_no_third() -> None:
    assert find_second_prompt([20, 7, 1, 1, 1, 1], Mode.GUIDED) is None
    assert find_second_prompt([20, 7, 1, 1, 9, 7, 1, 1], Mode.GUIDED) == 4
