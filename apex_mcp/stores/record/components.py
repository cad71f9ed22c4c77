"""Entities that are one: the components of visible links, without those that the user undid."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import LiteralString
from uuid import UUID

from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.visibility import AMBIGUOUS, NAMED, SPLIT, VISIBLE_LINK

# What no alias links is most of it.
_PAIRS: LiteralString = f"""
SELECT p.a_id, p.b_id, k.reason FROM entity_pairs p
CROSS JOIN LATERAL (
    (SELECT l.reason FROM entity_links l JOIN versions v ON v.id = l.version_id
     WHERE l.a_id = p.a_id AND l.b_id = p.b_id AND l.reason <> 'alias' AND {VISIBLE_LINK} LIMIT 1)
    UNION ALL
    (SELECT l.reason FROM entity_links l JOIN versions v ON v.id = l.version_id
     WHERE l.a_id = p.a_id AND l.b_id = p.b_id AND l.reason = 'alias' AND {VISIBLE_LINK} AND NOT {AMBIGUOUS} LIMIT 1)
    LIMIT 1) AS k
WHERE (p.a_id = ANY(%(ids)s) OR p.b_id = ANY(%(ids)s)) AND NOT {SPLIT}
"""

_ARRIVAL: LiteralString = f"""
SELECT e.id, e.seq, {NAMED} AS visible FROM entities e WHERE e.id = ANY(%(ids)s)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Component:
    """Entities that are shown as one.

    Attributes:
        id: the one under which they are shown: of the visible ones the one that came first.
        members: all of them, in the order in which they came.
        reasons: why each member but the shown one is here (name, alias, meaning, model).
    """

    id: UUID
    members: tuple[UUID, ...]
    reasons: Mapping[UUID, str]


async def components(
    connection: Connection, namespace: str, revision: int, entity_ids: Iterable[UUID]
) -> dict[UUID, Component]:
    """For each of these entities the component that it is in; most are alone in theirs."""
    asked = set(entity_ids)
    bound = {"namespace": namespace, "revision": revision}
    edges: dict[tuple[UUID, UUID], str] = {}
    reached, frontier = set(asked), asked
    while frontier:
        rows = await (await connection.execute(_PAIRS, {**bound, "ids": list(frontier)})).fetchall()
        edges |= {(row["a_id"], row["b_id"]): row["reason"] for row in rows}
        frontier = {one for row in rows for one in (row["a_id"], row["b_id"])} - reached
        reached |= frontier
    linked = {one for pair in edges for one in pair}
    found = {one: Component(id=one, members=(one,), reasons={}) for one in asked - linked}
    if linked:
        rows = await (await connection.execute(_ARRIVAL, {**bound, "ids": list(linked)})).fetchall()
        rank = {row["id"]: (not row["visible"], row["seq"]) for row in rows}
        seq = {row["id"]: row["seq"] for row in rows}
        for group in connected(edges):
            members = tuple(sorted(group, key=seq.__getitem__))
            root = min(group, key=rank.__getitem__)
            component = Component(id=root, members=members, reasons=_reasons(members, root, edges))
            found |= dict.fromkeys(group & asked, component)
    return found


def connected(edges: Iterable[tuple[UUID, UUID]]) -> list[set[UUID]]:
    """The sets of ids that edges connect."""
    group_of: dict[UUID, set[UUID]] = {}
    for a, b in edges:
        ours, theirs = group_of.get(a, {a}), group_of.get(b, {b})
        if ours is not theirs:
            small, large = sorted((ours, theirs), key=len)
            large |= small
            group_of |= dict.fromkeys({*small, a, b}, large)
    return list({id(group): group for group in group_of.values()}.values())


def _reasons(members: Sequence[UUID], root: UUID, edges: Mapping[tuple[UUID, UUID], str]) -> dict[UUID, str]:
    """For each member the reason of its link with the shown one, else of any link."""
    reasons: dict[UUID, str] = {}
    for (a, b), reason in edges.items():
        for one, other in ((a, b), (b, a)):
            if one in members and (other == root or one not in reasons):
                reasons[one] = reason
    reasons.pop(root, None)
    return reasons
