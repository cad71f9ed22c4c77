"""Which passages a model reads together: few requests, and none so long that a model loses the thread."""

from collections.abc import Sequence

from apex_mcp.ingestion.chunking import count_tokens
from apex_mcp.ingestion.enriching.protocol import Passage

GROUP_TOKENS = 2_000


def group_passages(passages: Sequence[Passage], max_tokens: int = GROUP_TOKENS) -> list[tuple[Passage, ...]]:
    """Passages in order, in groups of at most `max_tokens`; a longer passage is a group of its own.

    The groups are about equally long, so that the last one is no crumb without context.
    """
    sizes = [count_tokens(passage.text) for passage in passages]
    # As many groups as are needed anyhow; then each is closed when it has its share.
    count = max(1, -(-sum(sizes) // max_tokens))
    share = sum(sizes) / count
    groups: list[list[Passage]] = []
    group_size, seen = 0, 0
    for passage, size in zip(passages, sizes, strict=True):
        full = group_size + size > max_tokens
        has_share = seen + size / 2 > share * len(groups) and len(groups) < count
        if not groups or full or has_share:
            groups.append([])
            group_size = 0
        groups[-1].append(passage)
        group_size += size
        seen += size
    return [tuple(group) for group in groups]
