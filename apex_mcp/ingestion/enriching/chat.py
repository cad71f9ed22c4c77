"""One question to a chat model behind an OpenAI-compatible endpoint, answered as a JSON object."""

import asyncio
import json
import logging
import time
from dataclasses import asdict, dataclass, replace
from typing import Any, cast
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI, Omit
from openai.types.chat import ChatCompletion
from pydantic import SecretStr

from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.enriching.completions import CUT_OFF, cost, count_tokens_of, read
from apex_mcp.ingestion.enriching.forms import Form, Forms, thinks_unseen, without_refused
from apex_mcp.ingestion.enriching.protocol import UNMETERED, Meter, Usage
from apex_mcp.ingestion.enriching.refusals import (
    MODEL_STEP,
    UNCHANGED,
    is_about_content,
    model_unavailable,
    refusal,
    refusal_within,
)
from apex_mcp.stores.cache.protocol import RateLimit

_TRIES = 2

# Whoever answers so did not have the model answer; with these, it may have.
_GAVE_UP_STATUS = frozenset([408, 502, 504])
_NOT_SENT = frozenset(["ConnectError", "ConnectTimeout", "PoolTimeout"])
# An answer may be longer than is likely, by so much.
_TIMES_AS_LONG = 4

# These would write prompts, and with them content, at DEBUG, and addresses at INFO.
for _name in ("openai", "httpx2", "httpcore2", "httpx", "httpcore"):
    logging.getLogger(_name).setLevel(logging.WARNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and the JSON schema of the answer.

    Attributes:
        answer_tokens: about how long an answer may be.
    """

    system: str
    user: str
    answer_name: str
    answer_schema: dict[str, Any]
    answer_tokens: int


class ChatEndpoint:
    """Chat models behind `POST {base_url}/chat/completions`.

    Args:
        base_url: address up to and including the version.
        api_key: sent as a bearer token; None sends none.
        timeout_seconds: longest time one answer may take.
        concurrency: requests at a time.
        thought_tokens: what a model may think before an answer.
        rate_limit: spreads requests over all processes; None sets no limit.
        requests_per_minute: what it allows.
    """

    def __init__(
        self,
        *,
        base_url: str,
        api_key: SecretStr | None,
        timeout_seconds: float,
        concurrency: int,
        thought_tokens: int,
        rate_limit: RateLimit | None = None,
        requests_per_minute: int = 0,
    ) -> None:
        # Nothing of another account's, which the library would read from a developer's environment.
        self._withheld: dict[str, Any] = {"OpenAI-Organization": Omit(), "OpenAI-Project": Omit()}
        if api_key is None:
            self._withheld["Authorization"] = Omit()
        # Without what may stand before an @: a password.
        url = urlsplit(base_url)
        self.place = f"{url.scheme}://{url.netloc.rpartition('@')[2]}{url.path.rstrip('/')}"
        self._client = AsyncOpenAI(
            api_key=api_key.get_secret_value() if api_key else "none",
            base_url=base_url,
            timeout=openai.Timeout(timeout_seconds, connect=min(10, timeout_seconds)),
            # The one retry layer is the activity's.
            max_retries=0,
            # Text and key go where the settings say, and nowhere else.
            http_client=openai.DefaultAsyncHttpxClient(follow_redirects=False),
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._rate_limit = rate_limit
        self._requests_per_minute = requests_per_minute
        self._timeout_seconds = timeout_seconds
        self._thought_tokens = thought_tokens
        self._forms = Forms()

    async def ask(
        self, model: str, question: Question, meter: Meter = UNMETERED
    ) -> tuple[dict[str, Any], Usage]:
        """The model's answer as an object; it is asked twice where the first answer is none, and was not cut off.

        Raises:
            Unavailable: the endpoint does not answer now (`model_unavailable`).
            Rejected: it says no (`provider_rejected`), refuses this content or both answers are unusable
                (`model_answer_unusable`; what these cost is in `details`), or the meter says no.
        """
        usage, why = Usage(), ""
        for _ in range(_TRIES):
            completion, spent = await self._complete(model, question, meter)
            usage += spent
            answer, why = read(completion, question.answer_schema)
            if answer is not None:
                return answer, usage
            if why == CUT_OFF:
                break
        raise Rejected(
            f"the model's answer is unusable: {why}",
            code=Code.MODEL_ANSWER_UNUSABLE,
            unchanged=UNCHANGED,
            next_step=MODEL_STEP,
            details=asdict(usage),
        )

    def estimate(self, model: str, question: Question) -> Usage:
        """What a request is likely to cost, as far as can be told before it."""
        return self._estimate(self._request(question, self._forms.of(model)), question)

    async def close(self) -> None:
        """Release connections."""
        await self._client.close()

    def _estimate(self, request: dict[str, Any], question: Question) -> Usage:
        return Usage(
            requests=1,
            tokens_in=count_tokens_of(request["messages"], request.get("response_format")),
            tokens_out=question.answer_tokens,
            seconds=self._timeout_seconds,
        )

    async def _complete(self, model: str, question: Question, meter: Meter) -> tuple[ChatCompletion, Usage]:
        """One answer, in the richest form that the endpoint takes, and what it cost."""
        form = known = self._forms.of(model)
        while True:
            request = self._request(question, form)
            try:
                answered = await self._send(request, self._estimate(request, question), meter, form)
            except openai.APIStatusError as error:
                if error.status_code not in (400, 422) or is_about_content(error):
                    raise refusal(error) from None
                asked_tokens = request.get(form.limit) if form.limit else None
                plainer = without_refused(form, error, known=known, asked_tokens=asked_tokens)
                if plainer is None:
                    raise refusal(error) from None
                form = plainer
            else:
                self._forms.note(form)
                return answered

    def _request(self, question: Question, form: Form) -> dict[str, Any]:
        system = question.system
        request: dict[str, Any] = {"model": form.model, "extra_headers": self._withheld}
        match form.response_format:
            case "json_schema":
                schema = {"name": question.answer_name, "strict": True, "schema": question.answer_schema}
                request["response_format"] = {"type": "json_schema", "json_schema": schema}
            case "json_object":
                request["response_format"] = {"type": "json_object"}
                system = _with_schema(system, question.answer_schema)
            case "text":
                system = _with_schema(system, question.answer_schema)
        request["messages"] = [
            {"role": "system", "content": system},
            {"role": "user", "content": question.user},
        ]
        if form.option:
            request[form.option] = "low" if form.option == "reasoning_effort" else 0
        return request

    async def _send(
        self, request: dict[str, Any], estimate: Usage, meter: Meter, form: Form
    ) -> tuple[ChatCompletion, Usage]:
        """The answer; the limit that it is allowed is put into the request."""
        longest = _TIMES_AS_LONG * estimate.tokens_out + self._thought_tokens
        async with self._slots:
            if self._rate_limit is not None:
                await self._rate_limit.wait_turn("llm", per_minute=self._requests_per_minute)
            # Not before: a process that is killed has spent what was reserved.
            reserved = await meter.begin(estimate, min(longest, form.longest_answer or longest))
            if form.limit:
                request[form.limit] = reserved.tokens_out
            return await self._paid(request, estimate, reserved, meter)

    async def _paid(
        self, request: dict[str, Any], estimate: Usage, reserved: Usage, meter: Meter
    ) -> tuple[ChatCompletion, Usage]:
        began, spent = time.monotonic(), replace(estimate, seconds=0)
        try:
            answer = await self._answer(request)
            spent = cost(answer, reserved, thought_unseen=thinks_unseen(request["model"]))
            return answer, replace(spent, seconds=time.monotonic() - began)
        except TimeoutError:
            # It was at work on it all the time, as far as anybody knows.
            spent = replace(reserved, seconds=0)
            raise model_unavailable("the model did not answer in time") from None
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in _NOT_SENT:
                spent = Usage()
            raise model_unavailable("the model's endpoint cannot be reached, or cut the connection") from None
        except openai.APIStatusError as error:
            if error.status_code not in _GAVE_UP_STATUS:
                spent = Usage(requests=1)
            raise
        except (openai.OpenAIError, ValueError):
            # Without the cause: it would quote the answer.
            raise model_unavailable("the model's endpoint answered with something else than a chat") from None
        finally:
            seconds = time.monotonic() - began if spent.requests else 0.0
            await meter.end(reserved, replace(spent, seconds=seconds))

    async def _answer(self, request: dict[str, Any]) -> ChatCompletion:
        # The library's timeout is one of silence: a trickling answer would go on for ever.
        async with asyncio.timeout(self._timeout_seconds):
            try:
                create = cast("Any", self._client.chat.completions.with_raw_response.create)
                response: Any = await create(**request)
            except openai.APITimeoutError as error:
                if type(error.__cause__).__name__ in _NOT_SENT:
                    raise
                raise TimeoutError from None
        answer: object = response.parse()
        # The library hands on whatever JSON it gets: null, or a list.
        if not isinstance(answer, ChatCompletion):
            raise ValueError(type(answer).__name__)
        if (refused := refusal_within(answer, response.http_response)) is not None:
            raise refused
        return answer


def _with_schema(system: str, schema: dict[str, Any]) -> str:
    return f"{system}\n\nAnswer with one JSON object and nothing else. Its JSON schema:\n{json.dumps(schema)}"
