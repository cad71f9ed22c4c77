"""What an endpoint's refusals mean: in words of ours, for a provider's may quote text or key."""

import json
import re
from collections.abc import Mapping
from typing import Any, cast

import openai
from openai.types.chat import ChatCompletion

from apex_mcp.errors import ApexError, Code, Rejected, Unavailable
from apex_mcp.ingestion.retry_after import retry_after_seconds

_NO_CREDIT = frozenset(["insufficient_quota", "billing_hard_limit_reached"])
# Of one question: what it holds is not to be answered, or is too much. The others may be.
_ABOUT_CONTENT = re.compile(
    r"content[ _-]?(filter|policy|management)|responsible ?ai|safety[ _-](system|violation)|\bflagged\b",
    re.IGNORECASE,
)
_ABOUT_LENGTH = re.compile(
    r"context[ _-]?(length|size|window)|maximum context|`inputs` tokens|prompt is too long|too many (input )?tokens",
    re.IGNORECASE,
)
# How long an answer may be, whatever it is called.
_ABOUT_LIMIT = re.compile(r"max_\w*tokens|(output|completion) (tokens|length)|output limit", re.IGNORECASE)
_LONGEST_BODY = 2_000
_RETRIED_STATUS = frozenset([408, 409, 425, 429])

_KEY_STEP = "check APEX_OPENAI_API_KEY and what the key may do"
_NAME_STEP = "check APEX_OPENAI_BASE_URL, APEX_LLM_MODEL and APEX_LLM_SMALL_MODEL"
_CREDIT_STEP = "the provider's account has no credit left; add some there, then retry_ingestion"
_LIMIT_STEP = (
    "set APEX_LLM_THOUGHT_TOKENS so low that an answer with its thoughts is no longer than this model allows"
)
_REDIRECT_STEP = (
    "the endpoint is elsewhere, where nothing is sent by itself: give its own address as APEX_OPENAI_BASE_URL"
)
MODEL_STEP = "try again with retry_ingestion, or choose another model by APEX_LLM_MODEL"
UNCHANGED = "the text stays searchable; nothing of the model's was stored"


def is_about_content(error: openai.APIStatusError) -> bool:
    """Whether it refuses what the text says."""
    said = f"{error.code or ''} {error.type or ''} {message_of(error)}"
    return error.status_code in (400, 422) and _ABOUT_CONTENT.search(said) is not None


def is_about_length(error: openai.APIStatusError) -> bool:
    """Whether the request, or it and its answer, are too long for the model."""
    return error.code == "context_length_exceeded" or _ABOUT_LENGTH.search(message_of(error)) is not None


def is_about_limit(error: openai.APIStatusError) -> bool:
    """Whether the model answers less than it is allowed to, or wants to be told how much that is."""
    return _ABOUT_LIMIT.search(f"{error.param or ''} {message_of(error)}") is not None


def message_of(error: openai.APIStatusError) -> str:
    """The provider's words, to be searched and never shown: they may quote text or key."""
    body = error.body
    if isinstance(body, Mapping):
        fields = cast("Mapping[str, Any]", body)
        # Such as FastAPI's `detail`, which may hold all that was asked.
        body = fields["message"] if "message" in fields else json.dumps(fields)[:_LONGEST_BODY]
    return str(body or "")


def refusal_within(answer: ChatCompletion, response: Any) -> openai.APIStatusError | None:
    """The refusal that some gateways send with status 200, as if it had come with its own; None in an answer.

    Args:
        answer: what came.
        response: with which it came, of the HTTP client that the library brings along.
    """
    said = getattr(answer, "error", None)
    if not said or answer.choices:
        return None
    error = openai.APIStatusError("an error with status 200", response=response, body=said)
    code = error.code or ""
    # Without a status it is one that may pass.
    error.status_code = int(code) if re.fullmatch(r"[45]\d\d", code) else 500
    return error


def model_unavailable(message: str, retry_after_seconds: float | None = None) -> Unavailable:
    """The error for what may work later."""
    return Unavailable(
        message,
        code=Code.MODEL_UNAVAILABLE,
        unchanged=UNCHANGED,
        next_step="it is tried again by itself",
        retry_after_seconds=retry_after_seconds,
    )


def refusal(error: openai.APIStatusError) -> ApexError:
    """The error for an answer that is none, without the provider's message: it may quote text or key."""
    status = error.status_code
    code = str(error.code or error.type or "")
    said = f"the model's endpoint answered {status}"
    if re.fullmatch(r"[A-Za-z0-9_.-]{1,64}", code) and code != str(status):
        said += f" ({code})"
    if is_about_content(error):
        return Rejected(
            f"the model refuses this text: {said}",
            code=Code.MODEL_ANSWER_UNUSABLE,
            unchanged=UNCHANGED,
            next_step=MODEL_STEP,
            details={"status": status},
        )
    if code in _NO_CREDIT or status == 402:
        next_step = _CREDIT_STEP
    elif status in _RETRIED_STATUS or status >= 500:
        return model_unavailable(said, retry_after_seconds(error.response.headers))
    elif status in (401, 403):
        next_step = _KEY_STEP
    elif is_about_length(error):
        next_step = "choose a model with a longer context window by APEX_LLM_MODEL"
    elif is_about_limit(error):
        next_step = _LIMIT_STEP
    elif 300 <= status < 400:
        next_step = _REDIRECT_STEP
    else:
        next_step = _NAME_STEP
    return Rejected(
        said,
        code=Code.PROVIDER_REJECTED,
        unchanged=UNCHANGED,
        next_step=next_step,
        details={"status": status, **_asked(status, code)},
    )


def _asked(status: int, code: str) -> dict[str, bool]:
    """Marks a refusal that may be of this one question: another may be answered."""
    return {"asked": True} if status in (400, 413, 422) and code not in _NO_CREDIT else {}
