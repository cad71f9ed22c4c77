"""An S3-compatible service on a loopback port, by moto's threaded server."""

from collections.abc import Generator
from dataclasses import dataclass
from functools import cache
from typing import Any, cast
from uuid import uuid4

import pytest


@dataclass(frozen=True, slots=True)
class S3Service:
    """Where it is, and how to make a bucket; its keys are in the environment (`s3_environment`)."""

    endpoint_url: str

    def client(self) -> Any:
        """A client of the test's own."""
        return _client(self.endpoint_url)

    def new_bucket(self) -> str:
        """A bucket that nobody else has."""
        name = f"apex-{uuid4().hex}"
        self.client().create_bucket(Bucket=name)
        return name


_KEYS = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing-secret"}

S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": _KEYS["aws_access_key_id"],
    "AWS_SECRET_ACCESS_KEY": _KEYS["aws_secret_access_key"],
    "AWS_DEFAULT_REGION": "us-east-1",
    # Nothing of the machine's own account is used.
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/nonexistent/config",
    "AWS_SHARED_CREDENTIALS_FILE": "/nonexistent/credentials",
}


@cache
def _client(endpoint_url: str) -> Any:
    import boto3  # pyright: ignore[reportMissingTypeStubs]

    # Making one takes a third of a second.
    return cast("Any", boto3).client("s3", endpoint_url=endpoint_url, region_name="us-east-1", **_KEYS)


@pytest.fixture(scope="session")
def s3_service() -> Generator[S3Service]:
    """The service, for the whole run."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield S3Service(f"http://127.0.0.1:{port}")
    server.stop()


@pytest.fixture
def s3(s3_service: S3Service, monkeypatch: pytest.MonkeyPatch) -> S3Service:
    """The service, with its keys in the environment."""
    for name, value in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    return s3_service
