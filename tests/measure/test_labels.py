"""What is said of a mode beside its numbers: labels, and notes where something is not as asked."""

from threading import Thread
from types import SimpleNamespace

import pytest
import torch
from tokenizers import Tokenizer, models
from transformers import (
    DynamicCache,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    StaticCache,
    TextIteratorStreamer,
)

from pytest_vlmlatency import InvalidMeasurement, measure_generate
from pytest_vlmlatency.calls.generation import Mode, read_mode
from pytest_vlmlatency.records import Case, Scalar
from tests.measure.custom_models import ASKED, PROMPT, Captioner, Images
from tests.modes.installed import CHUNKS_BY_CALL
from tests.modes.prompts import second_turn
from tests.zoo import Specimen, build, is_available
from tests.zoo.earlier import CACHE, ENCODES_FIRST
from tests.zoo.shrink import VOCABULARY

WORKED_WITH: dict[object, tuple[str, tuple[str, ...]]] = {
    DynamicCache: ("dynamic", ()),
    StaticCache: ("static", ("static-cache",)),
}
"""A kind of cache in a word, and the label of a case that had it."""


def measure(specimen: Specimen, **settings: object) -> Case:
    return measure_generate(specimen.generate, kwargs={**specimen.inputs, **settings}, rounds=1)


def test_a_cache_that_transformers_replaces_by_another_is_told(llava: Specimen) -> None:
    """Earlier ones work with a static cache instead of a hybrid one, the newest with a dynamic."""
    settings = {"cache_implementation": "hybrid", "return_dict_in_generate": True}
    bare = llava.generate(**llava.inputs, **settings)
    kind, labels = WORKED_WITH[type(getattr(bare, CACHE))]

    case = measure(llava, **settings)

    assert case.labels == labels
    assert case.notes == (
        f"a cache of the kind 'hybrid' was asked for, but generate() worked with {kind!r}",
    )


def test_a_cache_that_stays_on_is_told() -> None:
    case = measure(build("blip-2"), use_cache=False)

    assert case.labels == ()
    assert case.notes == (
        "a cache of the kind 'none' was asked for, but generate() worked with 'dynamic'",
    )


@pytest.mark.parametrize(
    ("name", "settings", "label"),
    [
        ("llava", {"cache_implementation": "static"}, "static-cache"),
        ("florence2", {"use_cache": False}, "no-cache"),
        pytest.param(
            "glm5_next",
            {"use_cache": False},
            "no-cache",
            marks=pytest.mark.skipif(not is_available("glm5_next"), reason="there is none"),
        ),
    ],
)
def test_a_cache_as_asked_for_is_a_label(
    name: str, settings: dict[str, object], label: str
) -> None:
    case = measure(build(name), **settings)

    assert (case.labels, case.notes) == ((label,), ())


@pytest.mark.skipif(not ENCODES_FIRST, reason="encodes in every step without a cache: see below")
def test_doing_without_a_cache_is_a_label_where_images_are_encoded_first(llava: Specimen) -> None:
    case = measure(llava, use_cache=False)

    assert (case.labels, case.notes) == (("no-cache",), ())


@pytest.mark.skipif(ENCODES_FIRST, reason="images are encoded once, before the loop: see above")
def test_doing_without_a_cache_is_refused_where_images_are_encoded_in_every_step(
    llava: Specimen,
) -> None:
    with pytest.raises(InvalidMeasurement, match="worked on the pixels again in decode steps"):
        measure(llava, use_cache=False)


class PagedCache:
    """A cache of nobody's library: it tells how many tokens it holds."""

    def __init__(self, n_tokens: int = 0) -> None:
        self.n_tokens = n_tokens

    def get_seq_length(self) -> int:
        return self.n_tokens


class Remembers(Captioner):
    """Hands its cache from step to step, by a name of its own."""

    def forward(
        self,
        input_ids: torch.Tensor,
        images: Images | None = None,
        memory: PagedCache | None = None,
    ) -> SimpleNamespace:
        assert memory is not None, "generate() makes one"
        memory.n_tokens += input_ids.shape[1]
        return super().forward(input_ids, images)

    @torch.no_grad()
    def generate(  # type: ignore[override]  # it takes its memory, too
        self,
        input_ids: torch.Tensor,
        images: Images | None = None,
        memory: PagedCache | None = None,
    ) -> torch.Tensor:
        memory = memory or PagedCache()
        tokens = [self(input_ids, images, memory=memory).logits[:, -1].argmax(-1, keepdim=True)]
        while len(tokens) < 4:
            tokens.append(self(tokens[-1], memory=memory).logits[:, -1].argmax(-1, keepdim=True))
        return torch.cat([input_ids, *tokens], dim=1)


class Forgets(Captioner):
    """Feeds all tokens back in each step, and hands on an empty cache that nobody uses."""

    def forward(
        self, input_ids: torch.Tensor, images: Images | None = None, memory: object = None
    ) -> SimpleNamespace:
        return super().forward(input_ids, images)

    @torch.no_grad()
    def generate(  # type: ignore[override]  # of text alone
        self, input_ids: torch.Tensor
    ) -> torch.Tensor:
        ids = input_ids
        for _ in range(4):
            logits = self(ids, memory=PagedCache()).logits
            ids = torch.cat([ids, logits[:, -1].argmax(-1, keepdim=True)], dim=1)
        return ids


def test_a_cache_by_any_name_is_known_by_what_it_is() -> None:
    case = measure_generate(Remembers().generate, kwargs=ASKED, rounds=1)

    assert case.phase_map is not None
    assert (case.phase_map.cache, case.labels) == ("paged", ("paged-cache",))


def test_a_filled_cache_by_any_name_is_a_call_that_is_continued() -> None:
    model = Remembers()

    case = measure_generate(
        model.generate,
        setup=lambda: ((), {"input_ids": PROMPT, "memory": PagedCache(7)}),
        rounds=1,
    )

    assert case.labels == ("continued", "paged-cache")


def test_a_loop_that_computes_all_tokens_in_each_step_is_labelled_whatever_it_is_given() -> None:
    case = measure_generate(Forgets().generate, kwargs={"input_ids": PROMPT}, rounds=1)

    assert case.labels == ("no-cache", "text-only")


def test_steps_whose_cache_is_not_seen_have_no_label_of_it() -> None:
    """They work on one position each, so something remembers the others, or nothing does."""
    case = measure_generate(Captioner().generate, kwargs=ASKED, rounds=1)

    assert case.phase_map is not None
    assert (case.phase_map.cache, case.labels) == ("", ())


def test_a_cache_that_was_passed_in_is_told_by_its_kind(llava: Specimen) -> None:
    model = llava.model
    assert isinstance(model, PreTrainedModel)

    def fresh() -> tuple[tuple[object, ...], dict[str, object]]:
        cache = StaticCache(config=model.config.get_text_config(), max_cache_len=64)
        return (), {**llava.inputs, CACHE: cache}

    case = measure_generate(llava.generate, setup=fresh, rounds=1)

    assert case.labels == ("static-cache",)


@pytest.mark.skipif(not CHUNKS_BY_CALL, reason="chunks run past the model's call: refused")
def test_a_second_turn_in_chunks_splits_what_is_new(llava: Specimen) -> None:
    """The cache holds all but the answer's last token and the four words of the next turn."""
    turn = second_turn(llava)

    case = measure_generate(
        llava.generate,
        setup=lambda: ((), {**turn.fresh(), "prefill_chunk_size": 2}),
        rounds=1,
    )

    assert case.labels == ("continued", "chunked")
    assert case.calls[0].n_text_tokens == 5


def test_vision_that_may_be_among_embeddings_leaves_the_counts_unknown(llava: Specimen) -> None:
    model = llava.model
    assert isinstance(model, PreTrainedModel)
    embeds = model.get_input_embeddings()(llava.inputs["input_ids"]).detach()
    embeds[:, 4:20] = torch.ones(16, embeds.shape[-1])

    case = measure_generate(llava.generate, kwargs={"inputs_embeds": embeds}, rounds=1)

    assert case.labels == ("embeds",)
    assert (case.calls[0].n_vision_tokens, case.calls[0].n_text_tokens) == (None, None)
    assert len(case.notes) == 1


def test_text_that_is_read_from_a_thread_meanwhile_is_measured(llava: Specimen) -> None:
    vocabulary = {f"w{index}": index for index in range(VOCABULARY)}
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # it has no types
        tokenizer_object=Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    )
    heard: list[str] = []

    def ask(**kwargs: object) -> None:
        streamer = TextIteratorStreamer(tokenizer, skip_prompt=True)
        thread = Thread(target=lambda: llava.generate(**kwargs, streamer=streamer))
        thread.start()
        heard.append("".join(streamer))
        thread.join()

    case = measure_generate(ask, kwargs=llava.inputs, model=llava.model, rounds=1)

    assert case.labels == ("streamed",)
    assert case.calls[0].n_output_tokens == 8
    assert heard[-1] == heard[0] != ""


@pytest.mark.parametrize(
    "settings",
    [
        {"penalty_alpha": 0.5, "top_k": 4},
        {"dola_layers": "low"},
        {"num_beams": 4, "num_beam_groups": 2},
        {"num_beams": 2, "force_words_ids": [[5]]},
    ],
)
def test_ways_that_transformers_fetches_from_elsewhere_are_custom(
    settings: dict[str, Scalar],
) -> None:
    """What such a loop does to steps and tokens isn't known."""
    assert read_mode(settings, settings) is Mode.CUSTOM
