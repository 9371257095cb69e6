"""Whether this is a run of a pull request, as the CI service says in the environment.

Owns the variables that are asked. A run of a pull request never becomes a baseline by itself, since
its commit may never be merged. Elsewhere than in CI, and in services that are not listed, no run is
one: there, keep such runs out of the history with --vlm-history-readonly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

GITHUB_EVENT = "GITHUB_EVENT_NAME"  # Gitea and Forgejo set it too
GITHUB_EVENTS = frozenset(("pull_request", "pull_request_target", "pull_request_review"))
# Set to the number of the request, or to "false" where there is none.
NUMBERS = (
    "CI_MERGE_REQUEST_IID",  # GitLab
    "BITBUCKET_PR_ID",
    "BUILDKITE_PULL_REQUEST",
    "CHANGE_ID",  # Jenkins, multibranch pipelines
    "CIRCLE_PULL_REQUEST",
    "DRONE_PULL_REQUEST",
    "CI_COMMIT_PULL_REQUEST",  # Woodpecker
    "SYSTEM_PULLREQUEST_PULLREQUESTID",  # Azure Pipelines
    "TRAVIS_PULL_REQUEST",
    "APPVEYOR_PULL_REQUEST_NUMBER",
)


def is_pull_request(environ: Mapping[str, str]) -> bool:
    """Return whether the environment is that of a pull request's (or merge request's) run."""
    if environ.get(GITHUB_EVENT) in GITHUB_EVENTS:
        return True
    return any(environ.get(name, "") not in ("", "false") for name in NUMBERS)
