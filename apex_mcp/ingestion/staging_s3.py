"""Staging in a bucket of S3, or of a service that speaks its protocol."""

import asyncio
import io
import shutil
import tempfile
from collections.abc import AsyncGenerator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import boto3  # pyright: ignore[reportMissingTypeStubs]
from boto3.exceptions import Boto3Error  # pyright: ignore[reportMissingTypeStubs]
from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs]
from botocore.exceptions import (  # pyright: ignore[reportMissingTypeStubs]
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    PartialCredentialsError,
)

from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.ingestion.staging import MARK, as_id, disk_error, new_mark
from apex_mcp.stores.breaker import CircuitBreaker
from apex_mcp.stores.health import Health

NAME = "staging"
_NOT_THERE = frozenset({"404", "NoSuchKey", "NotFound"})
_NO_BUCKET = frozenset({"NoSuchBucket", "404", "NotFound", "InvalidBucketName", "400"})
_FORBIDDEN = frozenset({"403", "AccessDenied", "Forbidden", "InvalidAccessKeyId", "SignatureDoesNotMatch"})
_CONNECTIONS = 16
_CONFIG = {
    "connect_timeout": 3,
    # A large piece goes in parts of 8 MB, each within this time.
    "read_timeout": 30,
    # The activity's own policy is the one that tries again; this is for a connection that broke while nobody used it.
    "retries": {"total_max_attempts": 2, "mode": "standard"},
    "max_pool_connections": _CONNECTIONS,
    # Checksums that only Amazon's own service is sure to know.
    "request_checksum_calculation": "when_required",
    "response_checksum_validation": "when_required",
}

T = TypeVar("T")


class S3Staging:
    """Pieces under `prefix/<ingestion>/<name>`. Made by `open`.

    The keys come from where Amazon's tools look for them: AWS_* variables, its files, the machine's role.
    """

    def __init__(self, client: Any, bucket: str, prefix: str, health: Health) -> None:
        self._client = client
        self._bucket = bucket
        self._prefix = prefix
        # Of its own: a service that hangs would take the few that everything else in the process shares.
        self._threads = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="staging")
        self._breaker = CircuitBreaker(NAME, Code.STAGING_UNAVAILABLE, health, patience_seconds=10)

    @classmethod
    async def open(cls, address: str, *, endpoint_url: str | None, health: Health) -> "S3Staging":
        """Check the bucket by writing, reading and removing a small object.

        Args:
            address: `s3://bucket/prefix`.
            endpoint_url: of the service, where it is not Amazon's.
            health: what its condition is told to.

        Raises:
            Rejected: there is no such bucket, or it must not be used (`settings_invalid`).
            Unavailable: it does not answer.
        """
        parts = urlsplit(address)
        if not parts.netloc or parts.query or parts.fragment:
            raise _wrong("APEX_STAGING names no bucket", "give it as s3://bucket/prefix")
        prefix = parts.path.strip("/")
        client = await asyncio.to_thread(_connect, endpoint_url)
        staging = cls(client, parts.netloc, f"{prefix}/" if prefix else "", health)
        await staging._try()
        health.note(NAME, "ok")
        return staging

    async def _try(self) -> None:
        key = f"{self._prefix}.apex-{uuid4().hex}"

        def work() -> None:
            try:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=b"")
                self._client.get_object(Bucket=self._bucket, Key=key)["Body"].close()
                self._client.list_objects_v2(Bucket=self._bucket, Prefix=key, MaxKeys=1)
                self._client.delete_object(Bucket=self._bucket, Key=key)
            except ClientError as error:
                code = _code(error)
                if code in _NO_BUCKET:
                    raise _wrong(
                        "the bucket of APEX_STAGING is not there", "make it, or name another"
                    ) from error
                if code in _FORBIDDEN:
                    raise _wrong(
                        "the bucket of APEX_STAGING must not be used with these keys",
                        "let them read, write, list and delete objects under its prefix",
                    ) from error
                raise
            except (NoCredentialsError, PartialCredentialsError) as error:
                raise _wrong(
                    "there are no keys for the bucket of APEX_STAGING",
                    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give the machine a role",
                ) from error

        await self._ask(work)

    async def put(self, ingestion_id: UUID, name: str, data: bytes) -> None:
        """See `Staging`."""
        key = self._key(ingestion_id, name)
        await self._ask(lambda: self._client.upload_fileobj(io.BytesIO(data), self._bucket, key))

    async def get(self, ingestion_id: UUID, name: str) -> bytes | None:
        """See `Staging`."""
        key = self._key(ingestion_id, name)

        def read() -> bytes:
            with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
                return cast("bytes", body.read())

        return await self._ask(lambda: _unless_missing(read))

    @asynccontextmanager
    async def local_file(self, ingestion_id: UUID, name: str) -> AsyncGenerator[Path]:
        """See `Staging`. A copy, in a folder that only this user can read."""
        key = self._key(ingestion_id, name)
        folder = await asyncio.to_thread(tempfile.mkdtemp, prefix="apex-staging-")
        path = Path(folder) / name
        try:
            await self._ask(
                lambda: _unless_missing(lambda: self._client.download_file(self._bucket, key, str(path)))
            )
            yield path
        finally:
            await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)

    async def delete(self, ingestion_id: UUID) -> None:
        """See `Staging`."""

        def remove() -> None:
            # One by one: an ingestion has a few, and deleting many at once needs checksums that not every service knows.
            for item in list(self._list(f"{self._prefix}{ingestion_id}/")):
                self._client.delete_object(Bucket=self._bucket, Key=item["Key"])

        await self._ask(remove)

    async def older_than(self, age_seconds: float) -> list[UUID]:
        """See `Staging`."""

        def look() -> list[UUID]:
            limit = datetime.now(UTC) - timedelta(seconds=age_seconds)
            touched: dict[UUID, datetime] = {}
            for item in self._list(self._prefix):
                ingestion_id = as_id(item["Key"].removeprefix(self._prefix).partition("/")[0])
                if ingestion_id is not None:
                    before = touched.get(ingestion_id, item["LastModified"])
                    touched[ingestion_id] = max(before, item["LastModified"])
            return [ingestion_id for ingestion_id, at in touched.items() if at < limit]

        return await self._ask(look)

    async def mark(self) -> str:
        """See `Staging`."""
        key = f"{self._prefix}{MARK}"

        def read() -> str:
            with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
                return cast("bytes", body.read()).decode("ascii")

        def read_or_make() -> str:
            kept = _unless_missing(read)
            if kept is None:
                self._client.put_object(Bucket=self._bucket, Key=key, Body=new_mark().encode("ascii"))
                kept = read()
            return kept

        return await self._ask(read_or_make)

    def _key(self, ingestion_id: UUID, name: str) -> str:
        return f"{self._prefix}{ingestion_id}/{name}"

    def _list(self, prefix: str) -> Iterator[dict[str, Any]]:
        for page in self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=prefix
        ):
            yield from page.get("Contents", ())

    async def _ask(self, work: Callable[[], T]) -> T:
        with self._breaker.guard():
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, work)
            except OSError as error:
                raise disk_error(
                    error
                ) from error  # of this machine's own disk: boto3 names those of the net itself
            except (ClientError, BotoCoreError, Boto3Error) as error:
                # What was accepted waits, also while keys have expired: a right that is given back cures it.
                code = f" ({_code(error)})" if isinstance(error, ClientError) else ""
                raise Unavailable(
                    f"the bucket where content is staged does not answer{code}",
                    code=Code.STAGING_UNAVAILABLE,
                    unchanged="nothing of it was stored",
                    next_step="look after APEX_STAGING, APEX_S3_ENDPOINT_URL and the keys; ingestions go on by themselves",
                    retry_after_seconds=10,
                ) from error


def _connect(endpoint_url: str | None) -> Any:
    try:
        # A session of its own: the default one must not be used by several threads at its making.
        session = cast("Any", boto3.Session)()
        # Names of buckets are no host names of a service at one address.
        config = Config(**_CONFIG, s3={"addressing_style": "path" if endpoint_url else "auto"})
        return session.client("s3", endpoint_url=endpoint_url, config=config)
    except (ValueError, BotoCoreError) as error:
        raise _wrong(
            "APEX_S3_ENDPOINT_URL, or the AWS_* settings, are not valid",
            "give the address as https://host[:port]",
        ) from error


def _unless_missing(work: Callable[[], T]) -> T | None:
    try:
        return work()
    except ClientError as error:
        if _code(error) in _NOT_THERE:
            return None
        raise


def _code(error: ClientError) -> str:
    response = cast("dict[str, Any]", error.response)
    return str(response.get("Error", {}).get("Code", ""))[:64]


def _wrong(message: str, next_step: str) -> ApexError:
    return Rejected(message, code=Code.SETTINGS_INVALID, next_step=next_step)
