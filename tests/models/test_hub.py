from __future__ import annotations

from unittest.mock import Mock

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError

from pytest_vlmlatency.models.load import hub_answers, silences

NO_CONNECTION, NO_ANSWER_IN_TIME = silences()


def an_answer(outcome: Exception | None) -> object:
    def model_info(_api: HfApi, _name: str, *, timeout: float) -> None:
        assert timeout <= 10
        if outcome is not None:
            raise outcome

    return model_info


@pytest.mark.parametrize(
    ("outcome", "is_answer"),
    [
        (None, True),
        (RepositoryNotFoundError("401", response=Mock(headers={})), True),
        (OfflineModeIsEnabled("offline"), False),
        (NO_CONNECTION("refused"), False),
        (NO_ANSWER_IN_TIME("slow"), False),
    ],
)
def test_a_refusal_is_an_answer_and_silence_is_none(
    outcome: Exception | None, *, is_answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfApi, "model_info", an_answer(outcome))

    assert hub_answers("org/name") is is_answer
