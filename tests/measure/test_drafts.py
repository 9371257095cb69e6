"""Assisted decoding: which forwards, which tokens, how much of a draft was accepted."""

import copy
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from pytest_vlmlatency import measure_generate
from pytest_vlmlatency.calls.clock import HostClock
from pytest_vlmlatency.calls.drafts import Drafts, check_drafts, read_drafts
from pytest_vlmlatency.calls.recorder import Recorder
from pytest_vlmlatency.calls.workload import Inputs, read_inputs
from pytest_vlmlatency.errors import InvalidMeasurement
from pytest_vlmlatency.records import WALL, Case
from tests.builders import FakeClock, delayed
from tests.measure.assistants import small_language_model
from tests.modes.calls import around_and_around
from tests.zoo import Specimen, block_modules
from tests.zoo.shrink import EOS, VOCABULARY

if TYPE_CHECKING:
    from collections.abc import Callable

FEWER_WORDS = VOCABULARY - 40


def looked_up(llava: Specimen, **settings: object) -> Case:
    """Measure words that come round after three, with a look-up of two, and an end that never is.

    Earlier transformers look for the end in what they found, and fail where none is asked for.
    """
    return measure_generate(
        llava.generate,
        kwargs={
            **llava.inputs,
            "logits_processor": [around_and_around],
            "prompt_lookup_num_tokens": 2,
            "eos_token_id": EOS,
            **settings,
        },
        rounds=1,
    )


def test_each_forward_tells_its_draft_and_what_was_accepted_of_it(llava: Specimen) -> None:
    call = looked_up(llava).calls[0]

    assert call.drafted_lengths == (0, 1, 2, 2)
    assert call.accepted_lengths == (1, 2, 3, 2)
    assert (call.n_output_tokens, call.n_decode_steps) == (8, 3)
    assert call.mean_accepted_length == 2


def test_a_case_says_how_much_was_accepted(llava: Specimen) -> None:
    assert looked_up(llava).notes == (
        "of 5 drafted tokens 4 were accepted: 4 forwards gave 8 tokens, 2.00 each",
    )


def test_other_ways_to_decode_draft_nothing(llava: Specimen) -> None:
    case = measure_generate(llava.generate, kwargs=llava.inputs, rounds=1)

    call = case.calls[0]
    assert (call.drafted_lengths, call.accepted_lengths) == (None, None)
    assert call.mean_accepted_length is None
    assert case.notes == ()


def test_an_assistant_beside_beams_is_ignored_as_transformers_does(llava: Specimen) -> None:
    case = looked_up(llava, num_beams=2)

    assert case.labels == ("beam",)
    assert case.calls[0].accepted_lengths is None


@pytest.mark.parametrize("path", ["", "model.language_model"])
def test_a_model_that_drafts_with_a_part_of_itself_is_refused(llava: Specimen, path: str) -> None:
    inputs = replace(inputs_of(llava), assistant=llava.model.get_submodule(path))

    with pytest.raises(InvalidMeasurement, match="drafts with itself"):
        check_drafts(llava.model, inputs)


def test_an_exit_before_the_last_block_is_refused(llava: Specimen) -> None:
    """The configuration says how many blocks there are where transformers looks for it."""

    class TellsItsDepth(type(llava.model.config)):  # type: ignore[misc]  # a class of the model's
        @property
        def num_hidden_layers(self) -> int:
            return int(self.text_config.num_hidden_layers)

        @num_hidden_layers.setter
        def num_hidden_layers(self, value: int) -> None:
            self.text_config.num_hidden_layers = value

    llava.model.config.__class__ = TellsItsDepth
    vars(llava.model)["base_model_prefix"] = "model"  # earlier transformers don't name it

    with pytest.raises(InvalidMeasurement, match=r"drafts with itself \(assistant_early_exit\)"):
        measure_generate(
            llava.generate, kwargs={**llava.inputs, "assistant_early_exit": 2}, rounds=1
        )


def a_tokenizer(n_words: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer of words that are called after their number."""
    vocabulary = {f"w{index}": index for index in range(n_words)}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="w0"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    make: Callable[..., PreTrainedTokenizerFast] = PreTrainedTokenizerFast  # it has no types
    return make(tokenizer_object=tokenizer, unk_token="w0", pad_token="w0")


def test_an_assistant_with_another_tokenizer_is_measured(llava: Specimen, clock: FakeClock) -> None:
    assistant = small_language_model(FEWER_WORDS)
    settings = {
        "assistant_model": assistant,
        "tokenizer": a_tokenizer(VOCABULARY),
        "assistant_tokenizer": a_tokenizer(FEWER_WORDS),
    }
    with (
        delayed(assistant.get_submodule("model.layers.0"), lambda: clock.advance_ms(6)),
        delayed(block_modules(llava)[0], lambda: clock.advance_ms(3)),
    ):
        case = measure_generate(
            llava.generate, kwargs={**llava.inputs, **settings}, rounds=1, clock=clock
        )

    call = case.calls[0]
    assert case.labels == ("assisted",)
    assert (call.prefill_ms, call.other_ms) == (3, 0)
    assert call.phase_time("assistant", WALL) % 6 == 0
    assert call.accepted_lengths is not None
    assert sum(call.accepted_lengths) == call.n_output_tokens == 8


def inputs_of(llava: Specimen) -> Inputs:
    kwargs = {**llava.inputs, "prompt_lookup_num_tokens": 2}
    return read_inputs(llava.generate, llava.model, (), kwargs)


def a_recorder(widths: list[int], accepted: list[object]) -> Recorder:
    """Return what was noted of an assisted call with a forward for each width."""
    recorder = Recorder(HostClock())
    recorder.widths, recorder.accepted, recorder.n_forwards = widths, accepted, len(widths)
    return recorder


def test_accepted_lengths_may_be_tensors(llava: Specimen) -> None:
    recorder = a_recorder([27, 30], [torch.tensor(3), 2])

    assert read_drafts(recorder, inputs_of(llava), 5) == Drafts(drafted=(2, 2), accepted=(3, 2))


@pytest.mark.parametrize(
    ("widths", "accepted", "n_output_tokens"),
    [
        ([27, 30], [4, 2], 5),
        ([27, 30], [3, 0], 3),
        ([27, 26], [3, 1], 4),
        ([27, 30], [3], 3),
        ([27, 30], [3, 2], 6),
    ],
    ids=["more than drafted", "none", "a draft of less than nothing", "unknown", "more came out"],
)
def test_drafts_that_cannot_be_true_are_refused(
    llava: Specimen, widths: list[int], accepted: list[object], n_output_tokens: int
) -> None:
    with pytest.raises(InvalidMeasurement, match="assisted decoding drafted"):
        read_drafts(a_recorder(widths, accepted), inputs_of(llava), n_output_tokens)


def test_lengths_are_unknown_where_transformers_does_not_tell_them(llava: Specimen) -> None:
    assert read_drafts(a_recorder([27], []), inputs_of(llava), 1) == Drafts()


def test_a_copy_of_the_model_is_an_assistant_like_any(llava: Specimen) -> None:
    twin = replace(llava, model=copy.deepcopy(llava.model))

    case = measure_generate(
        llava.generate, kwargs={**llava.inputs, "assistant_model": twin.model}, rounds=1
    )

    assert case.labels == ("assisted",)
