from __future__ import annotations

import hashlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pytest_vlmlatency.models import processors as room
from pytest_vlmlatency.models.processors import (
    SPECIAL_TOKENS,
    build_tokenizer,
    chat_template,
    token_id,
)


def test_the_vocabulary_is_the_same_on_every_machine() -> None:
    room._trained.cache_clear()
    trained = room._trained()

    assert hashlib.sha256(trained.encode()).hexdigest()[:16] == "d4a65a8a64b6ee49"


def test_tokenizers_do_not_share_what_a_processor_changes() -> None:
    changed = build_tokenizer()
    changed.add_tokens(["<only here>"])

    assert len(build_tokenizer()) == len(changed) - 1


@pytest.mark.parametrize("token", SPECIAL_TOKENS)
def test_a_special_token_is_one_token(token: str) -> None:
    assert build_tokenizer()(f"a{token}b")["input_ids"][1:-1] == [token_id(token)]


@settings(deadline=None)
@given(st.text())
def test_any_text_survives(text: str) -> None:
    tokenizer = build_tokenizer()

    ids = tokenizer(text)["input_ids"]

    assert tokenizer.decode(ids, clean_up_tokenization_spaces=False) == text


def test_words_of_the_corpus_are_merged() -> None:
    assert len(build_tokenizer()("Describe this photograph in one sentence.")["input_ids"]) == 7


def test_the_template_writes_turns_with_their_images() -> None:
    tokenizer = build_tokenizer()
    turns = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What?"}]},
    ]

    text = tokenizer.apply_chat_template(
        turns,  # type: ignore[arg-type]  # its stub forgets parts
        chat_template=chat_template("<image>"),
        add_generation_prompt=True,
        tokenize=False,
    )

    assert text == (
        "<|im_start|>system\nBe brief.<|im_end|>\n"
        "<|im_start|>user\n<image>What?<|im_end|>\n"
        "<|im_start|>assistant\n"
    )
