"""What could not be told: each unknown has its sentence, and nothing else does."""

from dataclasses import replace

import pytest

from pytest_vlmlatency.calls.interception import find_target
from pytest_vlmlatency.inspection.findings import Tokens
from pytest_vlmlatency.inspection.look import placeholder_runs, untold
from pytest_vlmlatency.measure.single import Single, observe
from pytest_vlmlatency.options import Options
from tests.measure.custom_models import ASKED, PROMPT, Captioner, FromPicture

TOKENS = Tokens(
    n_vision=16,
    n_text=4,
    n_padding=0,
    n_images=1,
    per_image=(16,),
    placeholder_runs=(),
    n_block_positions=20,
    batch_size=1,
    n_prompt_forwards=1,
    n_decode_steps=7,
    n_output=8,
)


@pytest.fixture(scope="module")
def single() -> Single:
    target = find_target(Captioner().generate, (), ASKED, None)
    return observe(target, Options(threads=0), report=lambda _line: None)


def test_nothing_unknown_is_nothing_said(single: Single) -> None:
    assert untold(single, TOKENS) == ()


def test_the_tokens_of_several_images_may_not_be_apart(single: Single) -> None:
    tokens = replace(TOKENS, n_images=3, per_image=None)

    assert untold(single, tokens) == (
        "the vision tokens of each of 3 images: the prompt does not keep one image's placeholders "
        "apart from another's",
    )


def test_a_prompt_that_is_not_known_hides_its_padding(single: Single) -> None:
    assert untold(single, replace(TOKENS, n_padding=None)) == (
        "which of the prompt's positions are padding: it came as embeddings, or under a name that "
        "is not known",
    )


def test_states_of_another_length_are_no_positions(single: Single) -> None:
    assert untold(single, replace(TOKENS, n_block_positions=None)) == (
        "what the first block was given: its states do not have the length of the prompt, nor that "
        "of its text",
    )


def test_outputs_that_differ_and_a_disturbance_are_said(single: Single) -> None:
    other = replace(single, is_repeatable=False, disturbed_because="the clocks disagreed")

    assert untold(other, TOKENS) == (
        "whether watching changes what the model returns: unmeasured calls differed among "
        "themselves",
        "an undisturbed call: the clocks disagreed",
    )


def test_text_instead_of_ids_hides_how_many_tokens_came_out() -> None:
    kwargs = {"prompt": "What is it?", "image": ASKED["images"]}
    target = find_target(FromPicture().generate, (), kwargs, None)

    single = observe(target, Options(threads=0), report=lambda _line: None)

    assert untold(single, TOKENS) == (
        "how many tokens came out: generate() returned no ids, so its forwards were counted",
    )


def test_runs_of_placeholders_are_counted_row_by_row() -> None:
    assert placeholder_runs(PROMPT.repeat(2, 1), frozenset({1, 2, 4})) == (2, 1, 2, 1)
    assert placeholder_runs(None, frozenset({1})) == ()
