"""One question to a chat model behind an OpenAI-compatible endpoint, answered as a JSON object.

Endpoints differ in what they take: structured outputs, JSON mode or neither; some models refuse a temperature. The richest
form is tried first, and what an endpoint refuses is left out from then on.
"""

import asyncio
import json
import logging
import re
import time
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import openai
from openai import AsyncOpenAI, Omit
from openai.types.chat import ChatCompletion
from pydantic import SecretStr

from apex_mcp.errors import Code, Rejected
from apex_mcp.ingestion.enriching.protocol import UNMETERED, Meter, Usage
from apex_mcp.ingestion.enriching.refusals import (
    MODEL_STEP,
    UNCHANGED,
    is_about_content,
    is_about_length,
    message_of,
    model_unavailable,
    refusal,
)
from apex_mcp.stores.cache.protocol import RateLimit

_TRIES = 2
_FORMATS = ("json_schema", "json_object", "text")
_ABOUT_FORMAT = re.compile(r"response_?format|json_?(schema|object|mode)|structured|grammar", re.IGNORECASE)
_UNKNOWN_WORD = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|unexpected|not (permitted|allowed)|instead", re.I
)
_REASONING_MODEL = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d{2}))")

# Whoever answers so did not have the model answer; with these, it may have.
_GAVE_UP_STATUS = frozenset([408, 502, 504])
_NOT_SENT = frozenset(["ConnectError", "ConnectTimeout", "PoolTimeout"])
# An answer may be longer than is likely, by so much.
_TIMES_AS_LONG = 4
# A refusal may have another cause, or be of one long text: a limit is left out for good when that helped so often in a row.
_UNLIMITED_FOR_GOOD = 2
# In UTF-8, whatever the language.
_BYTES_PER_TOKEN = 4

_log = logging.getLogger(__name__)

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
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._rate_limit = rate_limit
        self._requests_per_minute = requests_per_minute
        self._timeout_seconds = timeout_seconds
        self._thought_tokens = thought_tokens
        self._format = 0
        # By model.
        self._left_out: defaultdict[str, set[str]] = defaultdict(set)
        # By model: how many answers in a row came only without a limit.
        self._unlimited: Counter[str] = Counter()

    async def ask(
        self, model: str, question: Question, meter: Meter = UNMETERED
    ) -> tuple[dict[str, Any], Usage]:
        """The model's answer as an object; it is asked twice where the first answer is none.

        Raises:
            Unavailable: the endpoint does not answer now (`model_unavailable`).
            Rejected: it says no (`provider_rejected`), refuses this content or both answers are unusable
                (`model_answer_unusable`; what these cost is in `details`), or the meter says no.
        """
        usage, why = Usage(), ""
        for _ in range(_TRIES):
            completion, cost = await self._complete(model, question, meter)
            usage += cost
            answer, why = _read(completion, question.answer_schema)
            if answer is not None:
                return answer, usage
        raise Rejected(
            f"the model's answer is unusable: {why}",
            code=Code.MODEL_ANSWER_UNUSABLE,
            unchanged=UNCHANGED,
            next_step=MODEL_STEP,
            details=asdict(usage),
        )

    def estimate(self, model: str, question: Question) -> Usage:
        """What a request is likely to cost, as far as can be told before it."""
        return self._estimate(self._request(model, question, self._format, self._left_out[model]), question)

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
        form, left_out = self._format, set(self._left_out[model])
        unlimited = self._unlimited[model] >= _UNLIMITED_FOR_GOOD
        while True:
            limit = None if unlimited else _limit(model, left_out)
            try:
                request = self._request(model, question, form, left_out)
                answered = await self._send(request, self._estimate(request, question), meter, limit)
            except openai.APIStatusError as error:
                if error.status_code not in (400, 422) or is_about_content(error):
                    raise refusal(error) from None
                # Some count the longest answer into the context window, and give what is left of that where none is named.
                refused = (
                    "limit" if is_about_length(error) else _refused_part(error, form, left_out, model, limit)
                )
                if refused is None or (refused == "limit" and limit is None):
                    raise refusal(error) from None
                if refused == "limit":
                    unlimited = True
                elif refused == "response_format":
                    form, unlimited = form + 1, self._unlimited[model] >= _UNLIMITED_FOR_GOOD
                else:
                    left_out.add(refused)
            else:
                self._format = max(self._format, form)
                self._left_out[model] |= left_out
                self._note_limit(model, used=limit is not None)
                return answered

    def _note_limit(self, model: str, *, used: bool) -> None:
        self._unlimited[model] = 0 if used else self._unlimited[model] + 1
        if self._unlimited[model] == _UNLIMITED_FOR_GOOD:
            _log.info("the endpoint is asked without a limit of the answer from now on")

    def _request(self, model: str, question: Question, form: int, left_out: set[str]) -> dict[str, Any]:
        system = question.system
        request: dict[str, Any] = {"model": model, "extra_headers": self._withheld}
        match _FORMATS[form]:
            case "json_schema":
                schema = {"name": question.answer_name, "strict": True, "schema": question.answer_schema}
                request["response_format"] = {"type": "json_schema", "json_schema": schema}
            case "json_object":
                request["response_format"] = {"type": "json_object"}
                system = _with_schema(system, question.answer_schema)
            case _:
                system = _with_schema(system, question.answer_schema)
        request["messages"] = [
            {"role": "system", "content": system},
            {"role": "user", "content": question.user},
        ]
        if (option := _option(model)) not in left_out:
            request[option] = "low" if option == "reasoning_effort" else 0
        return request

    async def _send(
        self, request: dict[str, Any], estimate: Usage, meter: Meter, limit: str | None
    ) -> tuple[ChatCompletion, Usage]:
        async with self._slots:
            if self._rate_limit is not None:
                await self._rate_limit.wait_turn("llm", per_minute=self._requests_per_minute)
            # Not before: a process that is killed has spent what was reserved.
            reserved = await meter.begin(
                estimate, _TIMES_AS_LONG * estimate.tokens_out + self._thought_tokens
            )
            if limit is not None:
                request = {**request, limit: reserved.tokens_out}
            return await self._paid(request, estimate, reserved, meter)

    async def _paid(
        self, request: dict[str, Any], estimate: Usage, reserved: Usage, meter: Meter
    ) -> tuple[ChatCompletion, Usage]:
        began, cost = time.monotonic(), replace(estimate, seconds=0)
        try:
            answer = await self._answer(request)
            cost = _cost(answer, reserved)
            return answer, replace(cost, seconds=time.monotonic() - began)
        except TimeoutError:
            # It was at work on it all the time, as far as anybody knows.
            cost = replace(reserved, seconds=0)
            raise model_unavailable("the model did not answer in time") from None
        except openai.APIConnectionError as error:
            if type(error.__cause__).__name__ in _NOT_SENT:
                cost = Usage()
            raise model_unavailable("the model's endpoint cannot be reached, or cut the connection") from None
        except openai.APIStatusError as error:
            if error.status_code not in _GAVE_UP_STATUS:
                cost = Usage(requests=1)
            raise
        except (openai.OpenAIError, ValueError):
            # Without the cause: it would quote the answer.
            raise model_unavailable("the model's endpoint answered with something else than a chat") from None
        finally:
            seconds = time.monotonic() - began if cost.requests else 0.0
            await meter.end(reserved, replace(cost, seconds=seconds))

    async def _answer(self, request: dict[str, Any]) -> ChatCompletion:
        # The library's timeout is one of silence: a trickling answer would go on for ever.
        async with asyncio.timeout(self._timeout_seconds):
            try:
                answer = cast("object", await self._client.chat.completions.create(**request))
            except openai.APITimeoutError as error:
                if type(error.__cause__).__name__ in _NOT_SENT:
                    raise
                raise TimeoutError from None
        # The library hands on whatever JSON it gets: null, or a list.
        if not isinstance(answer, ChatCompletion):
            raise ValueError(type(answer).__name__)
        return answer


def _option(model: str) -> Literal["reasoning_effort", "temperature"]:
    """What makes this kind of model quick or steady; the other kind of model refuses it."""
    return "reasoning_effort" if _REASONING_MODEL.match(_plain_name(model)) else "temperature"


def _plain_name(model: str) -> str:
    return model.rpartition("/")[2]


def _limit(model: str, left_out: set[str]) -> str | None:
    """The word by which the length of an answer is limited; None where the endpoint takes no limit."""
    words = ("max_completion_tokens", "max_tokens")
    preferred = words if _REASONING_MODEL.match(_plain_name(model)) else words[::-1]
    return next((word for word in preferred if word not in left_out), None)


def _refused_part(
    error: openai.APIStatusError, form: int, left_out: set[str], model: str, limit: str | None
) -> str | None:
    """What of the request the endpoint does not take; None where nothing more can be left out."""
    said = f"{error.param or ''} {message_of(error)}".lower()
    option = _option(model)
    if option not in left_out and option in said:
        return option
    # Servers word it in a hundred ways. A limit that is higher than the model's own is the first guess, the format the second.
    plainer = "response_format" if form + 1 < len(_FORMATS) else None
    if limit is None or (plainer and _ABOUT_FORMAT.search(said)):
        return plainer
    return limit if limit in said and _UNKNOWN_WORD.search(said) else "limit"


def _read(completion: ChatCompletion, schema: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The object in an answer, or why there is none of this schema."""
    # The library builds answers without checking them.
    choices = cast("object", completion.choices)
    choice = cast("list[Any]", choices)[0] if isinstance(choices, list) and choices else None
    message, finish = getattr(choice, "message", None), getattr(choice, "finish_reason", None)
    if message is None:
        return None, "it holds no message"
    if getattr(message, "refusal", None) or finish == "content_filter":
        return None, "the model refused"
    content = getattr(message, "content", None)
    cut_off = "it was cut off (APEX_LLM_THOUGHT_TOKENS is what a model may think before it)"
    if not isinstance(content, str) or not content.strip():
        return None, cut_off if finish == "length" else "it is empty"
    found = _object_in(content)
    if found is None:
        return None, cut_off if finish == "length" else "it is no JSON object"
    # An error message is an object as well, and would be kept as "nothing was found".
    if not all(isinstance(found.get(name), list) for name in schema["required"]):
        return None, "it lacks what was asked for"
    return found, ""


def _object_in(content: str) -> dict[str, Any] | None:
    """The JSON object that an answer is, or that stands in its fence or between its words."""
    plain = re.sub(r"<think>.*?</think>", "", content, flags=re.DOTALL)
    first, last = plain.find("{"), plain.rfind("}")
    if first < 0 or last < first:
        return None
    try:
        found = json.loads(plain[first : last + 1])
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None


def _with_schema(system: str, schema: dict[str, Any]) -> str:
    return f"{system}\n\nAnswer with one JSON object and nothing else. Its JSON schema:\n{json.dumps(schema)}"


def count_tokens_of(*parts: object) -> int:
    """About how many tokens these cost, as JSON."""
    return len(json.dumps(parts, ensure_ascii=False).encode("utf-8", "replace")) // _BYTES_PER_TOKEN


def _cost(completion: ChatCompletion, reserved: Usage) -> Usage:
    """What the endpoint says that it cost; where it does not, what was reserved for it."""
    used = completion.usage
    said_in, said_out, said_total = (
        count if isinstance(count := getattr(used, name, None), int) else None
        for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    tokens_in = reserved.tokens_in if said_in is None else said_in
    # Some count a model's thoughts in the total alone.
    known_out = [count for count in (said_out, said_total and said_total - tokens_in) if count is not None]
    return Usage(
        requests=1, tokens_in=tokens_in, tokens_out=max(0, *known_out) if known_out else reserved.tokens_out
    )
