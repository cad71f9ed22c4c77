"""Weighted fusion of what several retrievers propose.

Scores are scaled to 0..1, weighted and added (a convex combination; Bruch et al., "An Analysis of Fusion Functions for Hybrid
Retrieval", 2022): reciprocal ranks would let a weak retriever spoil a strong one, because they forget by how much a candidate
was better. BM25 has no upper end, so its scores are scaled by the best one. A cosine says by itself how near it is: scaled by
the best one, the nearest passage to nonsense would look like an answer.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apex_mcp.models import Candidate

WORDS = "words"
MEANING = "meaning"
ENTITY = "entity"

# Between sentences that have nothing to do with each other, and between paraphrases.
_UNRELATED_COSINE = 0.2
_SAME_COSINE = 0.8

WEIGHTS: Mapping[str, float] = {WORDS: 0.5, MEANING: 0.4, ENTITY: 0.1}


@dataclass(slots=True)
class Fused:
    """A candidate with each retriever's part of its score; the parts add up to `score`, 0 to 1."""

    chunk_id: UUID
    why: dict[str, float] = field(default_factory=dict[str, float])

    @property
    def score(self) -> float:
        return sum(self.why.values())


def fuse(proposals: Mapping[str, Sequence[Candidate]]) -> list[Fused]:
    """Candidates of all retrievers, best first; ties in the order of their ids.

    The weights of retrievers that propose something are scaled to add up to 1: the best passage of all of them has 1.
    """
    total = sum(WEIGHTS[name] for name, candidates in proposals.items() if candidates) or 1.0
    fused: dict[UUID, Fused] = {}
    for name, candidates in proposals.items():
        for chunk_id, score in _scaled(name, candidates).items():
            if score > 0:
                fused.setdefault(chunk_id, Fused(chunk_id)).why[name] = WEIGHTS[name] / total * score
    return sorted(fused.values(), key=lambda one: (-one.score, one.chunk_id))


def _scaled(name: str, candidates: Sequence[Candidate]) -> dict[UUID, float]:
    if name == MEANING:
        span = _SAME_COSINE - _UNRELATED_COSINE
        return {one.chunk_id: min((one.score - _UNRELATED_COSINE) / span, 1.0) for one in candidates}
    best = max((one.score for one in candidates), default=0.0)
    return {one.chunk_id: one.score / best for one in candidates} if best > 0 else {}
