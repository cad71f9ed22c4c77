"""What a model answered: the object in it, and what it cost."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, cast

from openai.types.chat import ChatCompletion, ChatCompletionMessage

from apex_mcp.ingestion.enriching.protocol import Usage

CUT_OFF = "it was cut off (APEX_LLM_THOUGHT_TOKENS, or what the document's budget leaves, is what a model may think before it)"

# In UTF-8, whatever the language.
_BYTES_PER_TOKEN = 4
# No count that a record or a budget could do anything with is larger.
_MOST_TOKENS = 10**9
_THOUGHTS_END = re.compile(r"</think(?:ing)?>")
_BEGINS_WITH_OBJECT = re.compile(r"[^{<]*\{")
# Where an object seems to begin in words or in what was cut off. Each is read to its end, so not any number.
_MOST_FALSE_BEGINNINGS = 30


def read(completion: ChatCompletion, schema: Mapping[str, Any]) -> tuple[dict[str, Any] | None, str]:
    """The object in an answer, or why there is none of this schema."""
    choice, message = _choice(completion), _message(completion)
    finish = getattr(choice, "finish_reason", None)
    if message is None:
        return None, "it holds no message"
    if getattr(message, "refusal", None) or finish == "content_filter":
        return None, "the model refused"
    content = _text(getattr(message, "content", None))
    objects = list(_objects_in(content))
    # An error message is an object as well, and would be kept as "nothing was found".
    found = [one for one in objects if all(isinstance(one.get(name), list) for name in schema["required"])]
    if found:
        # Some show behind their answer what an empty one would be.
        return next((one for one in reversed(found) if any(map(one.get, schema["required"]))), found[-1]), ""
    if finish == "length":
        return None, CUT_OFF
    if not content.strip():
        return None, "it is empty"
    return None, "it lacks what was asked for" if objects else "it is no JSON object"


def cost(completion: ChatCompletion, reserved: Usage, *, thought_unseen: bool) -> Usage:
    """What the endpoint says that it cost; where it does not, what it is likely to have cost.

    Args:
        completion: the answer.
        reserved: what it may have cost at most, and its prompt's length.
        thought_unseen: whether the answer does not show what was thought before it.
    """
    used = completion.usage
    said_in, said_out, said_total = (
        _count(getattr(used, name, None)) for name in ("prompt_tokens", "completion_tokens", "total_tokens")
    )
    # Some write zeros where they did not count.
    if not (said_in or said_out or said_total):
        said_in = said_out = said_total = None
    tokens_in = reserved.tokens_in if said_in is None else said_in
    # Some count a model's thoughts in the total alone.
    known_out = [count for count in (said_out, said_total and said_total - tokens_in) if count is not None]
    tokens_out = max(0, *known_out) if known_out else _likely_out(completion, reserved, thought_unseen)
    return Usage(requests=1, tokens_in=tokens_in, tokens_out=tokens_out)


def count_tokens_of(*parts: object) -> int:
    """About how many tokens these cost, as JSON."""
    return len(json.dumps(parts, ensure_ascii=False).encode("utf-8", "replace")) // _BYTES_PER_TOKEN


def _likely_out(completion: ChatCompletion, reserved: Usage, thought_unseen: bool) -> int:
    choice, message = _choice(completion), _message(completion)
    if message is None or thought_unseen or getattr(choice, "finish_reason", None) == "length":
        return reserved.tokens_out
    # With thoughts, where they are shown.
    return count_tokens_of(message.model_dump(mode="json", warnings=False))


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _MOST_TOKENS else None


# The library builds answers without checking them.
def _choice(completion: ChatCompletion) -> object:
    choices = cast("object", completion.choices)
    return cast("list[object]", choices)[0] if isinstance(choices, list) and choices else None


def _message(completion: ChatCompletion) -> ChatCompletionMessage | None:
    message = getattr(_choice(completion), "message", None)
    return message if isinstance(message, ChatCompletionMessage) else None


def _text(content: object) -> str:
    """The words of an answer, which some send in parts."""
    if isinstance(content, list):
        return "".join(map(_text, cast("list[object]", content)))
    if isinstance(content, dict):
        part = cast("dict[str, object]", content)
        return _text(part.get("text")) if part.get("type") == "text" else ""
    return content if isinstance(content, str) else ""


def _objects_in(content: str) -> Iterator[dict[str, Any]]:
    """The JSON objects that an answer is, or that stand in its fence or between its words; not what it thought before."""
    try:
        # Not strict: small models break lines within strings.
        whole: object = json.loads(content, strict=False)
    except (ValueError, RecursionError):
        behind = list(_objects_between(_THOUGHTS_END.split(content)[-1]))
        # The text may be about such a tag.
        yield from behind or (_objects_between(content) if _BEGINS_WITH_OBJECT.match(content) else ())
    else:
        items = cast("list[object]", whole) if isinstance(whole, list) else [whole]
        yield from (cast("dict[str, Any]", item) for item in items if isinstance(item, dict))


def _objects_between(words: str) -> Iterator[dict[str, Any]]:
    decoder, false_beginnings = json.JSONDecoder(strict=False), 0
    position = words.find("{")
    while position >= 0 and false_beginnings < _MOST_FALSE_BEGINNINGS:
        try:
            found, position = decoder.raw_decode(words, position)
        except (ValueError, RecursionError):
            false_beginnings, position = false_beginnings + 1, position + 1
        else:
            yield found
        position = words.find("{", position)
