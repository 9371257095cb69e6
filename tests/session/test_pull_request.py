from __future__ import annotations

import pytest

from pytest_vlmlatency.session.keeping import is_pull_request


@pytest.mark.parametrize(
    "environ",
    [
        {"GITHUB_EVENT_NAME": "pull_request"},
        {"GITHUB_EVENT_NAME": "pull_request_target"},
        {"CI_MERGE_REQUEST_IID": "7"},
        {"BUILDKITE_PULL_REQUEST": "7"},
        {"SYSTEM_PULLREQUEST_PULLREQUESTID": "7"},
    ],
)
def test_a_pull_request_is_told_by_what_its_service_sets(environ: dict[str, str]) -> None:
    assert is_pull_request(environ)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"GITHUB_EVENT_NAME": "push"},
        {"CI_MERGE_REQUEST_IID": ""},
        {"BUILDKITE_PULL_REQUEST": "false"},
        {"CI": "true"},
    ],
)
def test_any_other_run_is_none(environ: dict[str, str]) -> None:
    assert not is_pull_request(environ)
