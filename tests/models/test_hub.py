from __future__ import annotations

import pytest
from huggingface_hub import HfApi
from huggingface_hub.errors import OfflineModeIsEnabled, RepositoryNotFoundError
from huggingface_hub.utils import httpx  # type: ignore[attr-defined]  # the client it uses itself

from pytest_vlmlatency.models.hub import hub_answers

REQUEST = httpx.Request("GET", "https://hub.invalid/api/models/org/name")


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
        (RepositoryNotFoundError("401", response=httpx.Response(401, request=REQUEST)), True),
        (OfflineModeIsEnabled("offline"), False),
        (httpx.ConnectError("refused"), False),
        (httpx.ReadTimeout("slow"), False),
    ],
)
def test_a_refusal_is_an_answer_and_silence_is_none(
    outcome: Exception | None, *, is_answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HfApi, "model_info", an_answer(outcome))

    assert hub_answers("org/name") is is_answer
