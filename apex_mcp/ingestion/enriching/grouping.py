"""Which passages a model reads together: few requests, none so long that a model loses the thread.

Where a group ends is told by the passages themselves, not by their number: after an edit most groups are what they were, and
what was answered about them needs no new question.
"""

import hashlib
from collections.abc import Sequence

from apex_mcp.ingestion.chunking import count_tokens
from apex_mcp.ingestion.enriching.protocol import Passage

GROUP_TOKENS = 2_500


def group_passages(passages: Sequence[Passage], max_tokens: int = GROUP_TOKENS) -> list[tuple[Passage, ...]]:
    """Passages in order, in groups of half of `max_tokens` to all of it; a longer passage is a group of its own."""
    sizes = [count_tokens(passage.text) for passage in passages]
    groups: list[tuple[Passage, ...]] = []
    start = 0
    while start < len(passages):
        end = _end(passages, sizes, start, max_tokens)
        groups.append(tuple(passages[start:end]))
        start = end
    return groups


def _end(passages: Sequence[Passage], sizes: Sequence[int], start: int, max_tokens: int) -> int:
    """Where the group that begins at `start` ends: of the places that suit, before the passage with the smallest hash.

    Groups that began at different places choose the same one as soon as both can.
    """
    size, end = sizes[start], start + 1
    suiting: list[int] = []
    while end < len(passages) and size + sizes[end] <= max_tokens:
        if 2 * size >= max_tokens:
            suiting.append(end)
        size += sizes[end]
        end += 1
    if end == len(passages):
        return end
    return min([*suiting, end], key=lambda place: _hash(passages[place]))


def _hash(passage: Passage) -> bytes:
    return hashlib.sha256(passage.text.encode()).digest()
