"""Embeddings from an OpenAI-compatible endpoint: patient with documents, quick to give up on a question."""

import asyncio
import base64
import binascii
import copy
import math
import random
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import httpx
from pydantic import BaseModel, SecretStr, ValidationError

from apex_mcp.addresses import is_http
from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.ingestion.embedding.protocol import EmbedderState, OnProgress, Readiness
from apex_mcp.ingestion.retry_after import retry_after_seconds
from apex_mcp.stores.vectors.packing import unit, unpack

# A token is at least one byte, so limits in bytes hold for every tokenizer: OpenAI takes 8,191 tokens a text
# and 300,000 a request.
_WINDOW_BYTES = 8_000
_BATCH_BYTES = 250_000
_BATCH_TEXTS = 256
_PARALLEL_REQUESTS = 4

_REST_SECONDS = 15.0
_REFUSED_REST_SECONDS = 300.0

_KEY_STEP = "check APEX_OPENAI_API_KEY and what the key may do"
_NAME_STEP = "check APEX_OPENAI_BASE_URL and APEX_OPENAI_EMBEDDING_MODEL"


@dataclass(frozen=True, slots=True)
class _Patience:
    attempts: int
    longest_pause_seconds: float
    timeout_seconds: float


# Batches that were answered are paid for: a short outage must not throw them away. A search must not wait.
_WITH_DOCUMENTS = _Patience(attempts=4, longest_pause_seconds=30, timeout_seconds=60)
_WITH_QUERY = _Patience(attempts=2, longest_pause_seconds=1, timeout_seconds=8)


class _Item(BaseModel):
    index: int
    embedding: str | list[float]


class _Usage(BaseModel):
    prompt_tokens: int = 0


class _Reply(BaseModel):
    data: list[_Item]
    usage: _Usage | None = None


class _ErrorBody(BaseModel):
    code: str | int | None = None
    type: str | None = None


class _ErrorReply(BaseModel):
    error: _ErrorBody


class OpenAICompatibleEmbedder:
    """Asks `POST {base_url}/embeddings`.

    After a failure it rests: questions then fail at once, instead of waiting for a provider that is down.

    Args:
        base_url: address up to and including the version (`https://api.openai.com/v1`).
        model: the model's name at that endpoint.
        api_key: sent as a bearer token; None sends none.
    """

    def __init__(self, *, base_url: str, model: str, api_key: SecretStr | None) -> None:
        self._model = model
        url = httpx.URL(base_url)
        self._place = f"{url.scheme}://{url.netloc.decode('ascii')}{url.path.rstrip('/')}"
        self._api_key = api_key
        self._client: httpx.AsyncClient | None = None
        self._requests = asyncio.Semaphore(_PARALLEL_REQUESTS)
        self._dimension: int | None = None
        self._tokens = 0
        self._failure: ApexError | None = None
        self._rest_until = 0.0

    @property
    def name(self) -> str:
        return f"openai:{self._model}@{self._place}"

    @property
    def local(self) -> bool:
        return False

    @property
    def dimension(self) -> int | None:
        return self._dimension

    @property
    def state(self) -> EmbedderState:
        if self._resting and self._failure:
            text = f"{self._failure.message}; search is by words meanwhile; {self._failure.next_step}"
            return EmbedderState(readiness=Readiness.UNAVAILABLE, text=text)
        text = f"{self._model} at {self._place}"
        if self._tokens:
            text += f"; {self._tokens:,} tokens asked since this process began"
        return EmbedderState(readiness=Readiness.READY, text=text)

    @property
    def arrived(self) -> bool:
        return True

    async def prepare(self, on_progress: OnProgress | None = None) -> None:
        """Ask for one vector, unless one was had before: it proves the key and tells the dimension."""
        if self._dimension is None:
            await self._ask(["ready"], _WITH_QUERY)

    async def embed_documents(self, texts: Sequence[str]) -> list[list[float]]:
        batches = list(_batches([_fit(text) for text in texts]))
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._ask(batch, _WITH_DOCUMENTS)) for batch in batches]
        except* ApexError as failures:
            raise _first(failures) from None
        return [vector for task in tasks for vector in task.result()]

    async def embed_query(self, text: str) -> list[float]:
        if self._resting and self._failure:
            raise copy.copy(self._failure)
        [vector] = await self._ask([_fit(text)], _WITH_QUERY)
        return vector

    async def close(self) -> None:
        if self._client:
            await self._client.aclose()
            self._client = None

    @property
    def _resting(self) -> bool:
        return time.monotonic() < self._rest_until

    async def _ask(self, texts: list[str], patience: _Patience) -> list[list[float]]:
        """The one retry layer: answers vectors, or raises and rests."""
        for attempt in range(1, patience.attempts + 1):
            try:
                async with self._requests:
                    vectors = await self._ask_once(texts, patience.timeout_seconds)
            except Unavailable as error:
                pause_seconds = error.retry_after_seconds or _backoff_seconds(attempt)
                if attempt == patience.attempts or pause_seconds > patience.longest_pause_seconds:
                    raise self._rest(error, error.retry_after_seconds or _REST_SECONDS) from error.__cause__
                await asyncio.sleep(pause_seconds)
            except Rejected as error:
                raise self._rest(error, _REFUSED_REST_SECONDS) from error.__cause__
            else:
                self._failure, self._rest_until = None, 0.0
                return vectors
        raise AssertionError("a loop of attempts ends by returning or raising")

    def _rest(self, error: ApexError, seconds: float) -> ApexError:
        if error.retryable:
            error.retry_after_seconds = seconds
        self._failure, self._rest_until = error, time.monotonic() + seconds
        return copy.copy(error)

    async def _ask_once(self, texts: list[str], timeout_seconds: float) -> list[list[float]]:
        headers = {"Authorization": f"Bearer {self._api_key.get_secret_value()}"} if self._api_key else {}
        body = {"model": self._model, "input": texts, "encoding_format": "base64"}
        if self._client is None:
            self._client = httpx.AsyncClient()
        try:
            response = await self._client.post(
                f"{self._place}/embeddings",
                json=body,
                headers=headers,
                timeout=httpx.Timeout(timeout_seconds, connect=min(5, timeout_seconds)),
            )
        except httpx.TimeoutException as error:
            raise _unavailable("the embeddings endpoint did not answer in time") from error
        except httpx.RequestError as error:
            raise _unavailable("the embeddings endpoint cannot be reached, or cut the connection") from error
        if not response.is_success:
            raise _refusal(response)
        return self._read(response, len(texts))

    def _read(self, response: httpx.Response, count: int) -> list[list[float]]:
        try:
            reply = _Reply.model_validate_json(response.content)
            items = sorted(reply.data, key=lambda item: item.index)
            vectors = [unit(_decode(item.embedding)) for item in items]
        except (ValidationError, ValueError, binascii.Error):
            # Without the cause: it would quote the answer.
            raise _unavailable(
                "the embeddings endpoint answered with something else than embeddings"
            ) from None
        # Local servers may send no count, or a wrong one; nothing rests on it.
        self._tokens += max(0, reply.usage.prompt_tokens) if reply.usage else 0
        dimensions = {len(vector) for vector in vectors}
        if [item.index for item in items] != list(range(count)) or len(dimensions) != 1 or 0 in dimensions:
            raise _unavailable("the embeddings endpoint did not answer one vector for each text")
        [dimension] = dimensions
        if self._dimension not in (None, dimension):
            raise Rejected(
                f"the embeddings endpoint changed its vectors from {self._dimension} to {dimension} numbers",
                next_step="if the model was changed on purpose, restart and run `apex-mcp reindex`",
            )
        self._dimension = dimension
        return vectors


def check_base_url(base_url: str) -> None:
    """Refuse an address that nothing can be sent to.

    Raises:
        Rejected: it is not an http(s) address (`settings_invalid`).
    """
    try:
        httpx.URL(base_url)
        good = is_http(base_url)
    except httpx.InvalidURL:
        good = False
    if not good:
        raise Rejected(
            "APEX_OPENAI_BASE_URL is not an http or https address",
            code=Code.SETTINGS_INVALID,
            next_step="give the address up to its version, such as https://api.openai.com/v1",
        )


def _fit(text: str) -> str:
    """The text as the endpoint takes it: valid Unicode, not empty, within the model's window."""
    data = text.encode("utf-8", errors="replace")
    return data[:_WINDOW_BYTES].decode("utf-8", errors="ignore") or " "


def _batches(texts: Sequence[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    batch_bytes = 0
    for text in texts:
        size = len(text.encode("utf-8"))
        if batch and (len(batch) == _BATCH_TEXTS or batch_bytes + size > _BATCH_BYTES):
            yield batch
            batch, batch_bytes = [], 0
        batch.append(text)
        batch_bytes += size
    if batch:
        yield batch


def _decode(embedding: str | list[float]) -> list[float]:
    vector = unpack(base64.b64decode(embedding, validate=True)) if isinstance(embedding, str) else embedding
    if not all(map(math.isfinite, vector)):
        raise ValueError("not a finite vector")
    return vector


def _backoff_seconds(attempt: int) -> float:
    # Jitter, so that the parallel batches of one outage do not come back all at once.
    return 0.5 * 2 ** (attempt - 1) * random.uniform(0.75, 1.25)


def _unavailable(message: str, retry_after_seconds: float | None = None) -> Unavailable:
    return Unavailable(
        message,
        code=Code.EMBEDDER_UNAVAILABLE,
        unchanged="no vector was made",
        next_step="it is tried again by itself",
        retry_after_seconds=retry_after_seconds,
    )


def _refusal(response: httpx.Response) -> ApexError:
    """The error for an answer that is none, without the provider's message: it may quote text or key."""
    status, code = response.status_code, _provider_code(response)
    said = f"the embeddings endpoint answered {status}" + (f" ({code})" if code else "")
    if code in ("insufficient_quota", "billing_hard_limit_reached"):
        next_step = "the provider's account has no credit left; add some there"
    elif status in (408, 409, 425, 429) or status >= 500:
        return _unavailable(said, retry_after_seconds(response.headers))
    elif status in (401, 403):
        next_step = _KEY_STEP
    else:
        next_step = _NAME_STEP
    return Rejected(said, unchanged="no vector was made", next_step=next_step, details={"status": status})


def _provider_code(response: httpx.Response) -> str:
    try:
        error = _ErrorReply.model_validate_json(response.content).error
    except ValidationError:
        return ""
    code = str(error.code or error.type or "")
    return code if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", code) else ""


def _first(failures: BaseExceptionGroup[ApexError]) -> ApexError:
    """One failure stands for all; the one that only the user can cure comes first."""
    leaves: list[ApexError] = []
    for failure in failures.exceptions:
        leaves.extend([_first(failure)] if isinstance(failure, BaseExceptionGroup) else [failure])
    return min(leaves, key=lambda error: error.retryable)
