"""Weighted fusion of what several retrievers propose.

Each retriever's scores are scaled by its own best one, weighted and added (a convex combination; Bruch et al., "An Analysis of
Fusion Functions for Hybrid Retrieval", 2022): reciprocal ranks would let a weak retriever spoil a strong one, because they
forget by how much a candidate was better.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from apex_mcp.models import Candidate

WORDS = "words"
MEANING = "meaning"
ENTITY = "entity"

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
        best = max((candidate.score for candidate in candidates), default=0.0)
        if best <= 0:
            continue
        for candidate in candidates:
            share = WEIGHTS[name] / total * max(candidate.score, 0.0) / best
            fused.setdefault(candidate.chunk_id, Fused(candidate.chunk_id)).why[name] = share
    return sorted(fused.values(), key=lambda one: (-one.score, one.chunk_id))
