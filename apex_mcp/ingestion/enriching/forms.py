"""How a question is put to a model: the richest form first, and plainer where the endpoint refuses a part of it.

Endpoints differ in what they take: structured outputs, JSON mode or neither; some models refuse a temperature, others a long
answer.
"""

import logging
import re
from dataclasses import dataclass, replace
from typing import Literal

import openai

from apex_mcp.ingestion.enriching.refusals import is_about_length, is_about_limit, message_of

ResponseFormat = Literal["json_schema", "json_object", "text"]

_PLAINER: dict[ResponseFormat, ResponseFormat] = {"json_schema": "json_object", "json_object": "text"}
_ABOUT_FORMAT = re.compile(r"response_?format|json_?(schema|object|mode)|structured|grammar", re.IGNORECASE)
_UNKNOWN_WORD = re.compile(
    r"unsupported|not supported|unknown|unrecogni[sz]ed|unexpected|not (permitted|allowed)|instead", re.I
)
_REASONING_MODEL = re.compile(r"(?:o\d|gpt-(?:[5-9]|\d{2}))")
_LIMIT_WORDS = ("max_completion_tokens", "max_tokens")
# Not the parts of a model's name.
_NUMBER = re.compile(r"(?<![\w.-])(?:\d{1,3}(?:,\d{3})+|\d+)(?![\w-])")
# A smaller number in a refusal is a status or a version, and an answer of that length would be none.
_SHORTEST_LIMIT = 1_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How one model is asked.

    Attributes:
        left_out: parameters that it refuses.
        longest_answer: the most tokens that it allows an answer; None allows any number, with 0 none is named.
    """

    model: str
    response_format: ResponseFormat = "json_schema"
    left_out: frozenset[str] = frozenset()
    longest_answer: int | None = None

    @property
    def option(self) -> Literal["reasoning_effort", "temperature"] | None:
        """What makes this kind of model quick or steady; the other kind of model refuses it."""
        name = "reasoning_effort" if thinks_unseen(self.model) else "temperature"
        return name if name not in self.left_out else None

    @property
    def limit(self) -> str | None:
        """The word by which the length of an answer is limited; None where the endpoint takes no limit."""
        if self.longest_answer == 0:
            return None
        words = _LIMIT_WORDS if thinks_unseen(self.model) else _LIMIT_WORDS[::-1]
        return next((word for word in words if word not in self.left_out), None)


class Forms:
    """The form that each model takes, as far as is known.

    A refusal may have another cause, or be of one text: a plainer format or limit is kept when it helped twice in a row.
    """

    def __init__(self) -> None:
        self._known: dict[str, Form] = {}
        self._last: dict[str, Form] = {}

    def of(self, model: str) -> Form:
        """How to ask this model first."""
        return self._known.get(model, Form(model=model))

    def note(self, form: Form) -> None:
        """Note the form that was answered."""
        known = self.of(form.model)
        last = self._last.get(form.model, known)
        now = replace(known, left_out=known.left_out | form.left_out)
        if form.response_format == last.response_format:
            now = replace(now, response_format=form.response_format)
        if form.longest_answer == last.longest_answer:
            now = replace(now, longest_answer=form.longest_answer)
        if now != known:
            _log.info("a model is asked more plainly from now on: its endpoint refuses more")
        self._known[form.model], self._last[form.model] = now, form


def thinks_unseen(model: str) -> bool:
    """Whether it is known to think before it answers, without saying what."""
    return _REASONING_MODEL.match(model.rpartition("/")[2]) is not None


def without_refused(
    form: Form, error: openai.APIStatusError, *, known: Form, asked_tokens: int | None
) -> Form | None:
    """The form without what the endpoint does not take; None where nothing more can be left out.

    Args:
        form: what was refused.
        error: how.
        known: with what the question began.
        asked_tokens: the limit that was named.
    """
    # Some count the longest answer into the context window, and give what is left of that where none is named.
    if is_about_length(error):
        return replace(form, longest_answer=0) if form.limit else None
    said = f"{error.param or ''} {message_of(error)}".lower()
    if form.option and form.option in said:
        return replace(form, left_out=form.left_out | {form.option})
    plainer = None
    if form.response_format in _PLAINER:
        plainer = replace(
            form, response_format=_PLAINER[form.response_format], longest_answer=known.longest_answer
        )
    if plainer and _ABOUT_FORMAT.search(said):
        return plainer
    if form.limit is None or asked_tokens is None:
        return None if is_about_limit(error) else plainer
    # Servers word it in a hundred ways. A limit that is higher than the model's own is the first guess, the format the second.
    allowed = _largest_below(asked_tokens, said) if is_about_limit(error) else 0
    # Once: a refusal may quote a text full of numbers.
    if allowed and form.longest_answer == known.longest_answer:
        return replace(form, longest_answer=allowed)
    if form.limit in said and _UNKNOWN_WORD.search(said):
        return replace(form, left_out=form.left_out | {form.limit})
    return replace(form, longest_answer=0)


def _largest_below(tokens: int, said: str) -> int:
    """The largest number in a refusal that may be the limit it allows; 0 where there is none."""
    numbers = (int(number.replace(",", "")) for number in _NUMBER.findall(said) if len(number) < 12)
    return max((number for number in numbers if _SHORTEST_LIMIT <= number < tokens), default=0)
