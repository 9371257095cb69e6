"""Whatever generate() is asked for, measuring leaves its output, its errors and its model alone."""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.discovery.watch import put_back, state_of
from pytest_vlmlatency.errors import PhasesNotFound
from tests.modes import Mode, judge
from tests.modes.calls import Listener, around_and_around
from tests.modes.mode import Asked, asked
from tests.modes.prompts import doubled, padded
from tests.threads import torch_threads
from tests.zoo import Inputs, Specimen, block_modules, build
from tests.zoo.shrink import FIRST_WORD

FAMILIES = ("llava", "qwen2_vl", "gemma3", "mllama", "git", "florence2", "blip-2")
DECODING: tuple[Mapping[str, object], ...] = (
    {},
    {"do_sample": True},
    {"do_sample": True, "num_return_sequences": 2},
    {"num_beams": 2},
    {"num_beams": 3, "num_return_sequences": 2},
    {"num_beams": 2, "do_sample": True},
    {"prompt_lookup_num_tokens": 2, "logits_processor": [around_and_around]},
    {"guidance_scale": 1.5},
)
CACHES: tuple[Mapping[str, object], ...] = (
    {},
    {"use_cache": False},
    {"cache_implementation": "static"},
    {"cache_implementation": "quantized", "cache_config": {"backend": "fp8"}},
    {"prefill_chunk_size": 5},
)
EXTRAS: tuple[Mapping[str, object], ...] = (
    {},
    {"eos_token_id": [FIRST_WORD + 7, FIRST_WORD + 70], "pad_token_id": 0},
    {"return_dict_in_generate": True, "output_scores": True},
    {"repetition_penalty": 1.3},
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A call at random: what it is of, how many rows and tokens, and which settings."""

    family: str
    has_images: bool
    has_two_rows: bool
    has_padding: bool
    is_streamed: bool
    n_tokens: int
    decoding: Mapping[str, object]
    cache: Mapping[str, object]
    extra: Mapping[str, object]

    def ask(self, specimen: Specimen) -> Asked:
        """Return the call; what it should count isn't said."""
        inputs = self.inputs(specimen)
        own = {"max_new_tokens": self.n_tokens, **self.decoding, **self.cache, **self.extra}
        streamer = {"streamer": Listener()} if self.is_streamed else {}
        return asked(specimen, fresh=lambda: {**inputs, **copy.deepcopy(own), **streamer})

    def inputs(self, specimen: Specimen) -> Inputs:
        """Return a batch as large and as padded as asked for."""
        words = None if self.has_images else specimen.text_inputs
        if words is None:
            inputs = doubled(specimen) if self.has_two_rows else specimen.inputs
        elif self.has_two_rows:
            inputs = {name: torch.cat([value, value]) for name, value in words.items()}
        else:
            inputs = words
        return padded(inputs) if self.has_padding else inputs


REQUESTS = st.builds(
    Request,
    family=st.sampled_from(FAMILIES),
    has_images=st.booleans(),
    has_two_rows=st.booleans(),
    has_padding=st.booleans(),
    is_streamed=st.booleans(),
    n_tokens=st.integers(1, 5),
    decoding=st.sampled_from(DECODING),
    cache=st.sampled_from(CACHES),
    extra=st.sampled_from(EXTRAS),
)


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    """A bare call is to give what a measured one does, to the last bit: on one thread, too."""
    with torch_threads(1):
        yield


@cache
def specimen(family: str) -> Specimen:
    return build(family)


@settings(max_examples=100, derandomize=True, deadline=None, database=None)
@given(request=REQUESTS)
def test_measuring_changes_neither_output_nor_error_nor_model(request: Request) -> None:
    verdict = judge(Mode(name="any", ask=request.ask), specimen(request.family))

    changed = ("differs from the bare one", "stayed on the model", "but measured")
    mistimed = ("vision_ms is", "other_ms is")
    assert not [words for words in (*changed, *mistimed) if words in verdict.why], verdict.why


def test_an_error_that_only_watching_meets_is_refused_by_its_name() -> None:
    """This model's second token fails under guidance, and one token is asked for."""
    qwen = specimen("qwen2_vl")
    few = {**qwen.inputs, "guidance_scale": 1.5, "max_new_tokens": 1}
    qwen.generate(**few)

    with pytest.raises(
        PhasesNotFound, match="raised RuntimeError when it was watched for 3 tokens"
    ):
        measure_generate(qwen.generate, kwargs=few, rounds=1)


def test_an_error_that_only_watching_meets_leaves_nothing_on_the_model() -> None:
    """Earlier transformers keep a static cache on the model: half made, it fails the next call."""
    llava = build("llava")
    few = {"max_new_tokens": 1}

    def break_in_a_step(_block: object, args: Sequence[torch.Tensor]) -> None:
        if args[0].shape[1] == 1:
            vars(llava.model)["_half_made"] = object()
            raise ValueError

    block_modules(llava)[0].register_forward_pre_hook(break_in_a_step)
    with pytest.raises(PhasesNotFound, match="when it was watched for 3 tokens"):
        measure_generate(llava.generate, kwargs={**llava.inputs, **few}, rounds=1)

    assert "_half_made" not in vars(llava.model)


def test_what_is_undone_after_an_error_has_its_hooks_undone_too() -> None:
    """transformers marks a model once it has put hooks on it; with one of both, features change."""
    model = torch.nn.Linear(2, 2)
    before = state_of(model)
    vars(model)["_has_hooks"] = True
    model.register_forward_hook(lambda *_: None)

    put_back(before)

    assert "_has_hooks" not in vars(model)
    assert not model._forward_hooks
