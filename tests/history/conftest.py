from __future__ import annotations

import uuid
from importlib.util import find_spec
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="session")
def s3() -> Iterator[str]:
    """A real S3 API on loopback, and what finds it in the environment; yields a bucket's URL."""
    if find_spec("moto") is None:
        pytest.skip("an S3 API on loopback, moto, is of the extra `dev`")
    import boto3  # noqa: PLC0415 - slow to import
    from moto.server import ThreadedMotoServer  # noqa: PLC0415 - slow to import

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "testing")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        boto3.client("s3").create_bucket(Bucket="latency")
        yield "s3://latency"
    server.stop()


@pytest.fixture(params=["folder", "file", "memory", "s3"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a history may lie: each test takes all of them."""
    if request.param == "s3":
        bucket: str = request.getfixturevalue("s3")
        return f"{bucket}/{uuid.uuid4()}"
    return {
        "folder": str(tmp_path / "history"),
        "file": (tmp_path / "history").as_uri(),
        "memory": f"memory://{uuid.uuid4()}/history",
    }[str(request.param)]


@pytest.fixture(params=["folder", "s3"])
def url_of_processes(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a history may lie that several processes reach."""
    if request.param == "s3":
        bucket: str = request.getfixturevalue("s3")
        return f"{bucket}/{uuid.uuid4()}"
    return str(tmp_path / "history")
