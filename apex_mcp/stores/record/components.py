"""Entities that are one: the components of visible links, without those that the user undid or that join what is different.

Which links count depends on what is visible, not on what came first.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString
from uuid import UUID

from apex_mcp import ids
from apex_mcp.stores.record.database import Connection
from apex_mcp.stores.record.visibility import DIFFERENT, LINK, NAMED, SPLIT, VISIBLE_SOURCE

# Links that are made of a likeness: they yield to a model's no.
LIKENESS = frozenset({"meaning", "model"})
# The surest first.
_REASONS = ("name", "alias", "model", "meaning")

Pair = tuple[UUID, UUID]

_PAIRS: LiteralString = f"""
SELECT p.a_id, p.b_id, k.reason FROM entity_pairs p CROSS JOIN LATERAL ({LINK}) AS k
WHERE (p.a_id = ANY(%(ids)s) OR p.b_id = ANY(%(ids)s)) AND NOT {SPLIT}
"""

_ARRIVAL: LiteralString = f"""
SELECT e.id, e.seq, e.normalised, e.core, {NAMED} AS visible FROM entities e WHERE e.id = ANY(%(ids)s)
"""

# One fact's subject and object are two things, unless it says that one is a name of the other.
_RELATED: LiteralString = f"""
SELECT DISTINCT f.subject_id, f.object_id FROM facts f
WHERE f.subject_id = ANY(%(ids)s) AND f.object_id = ANY(%(ids)s) AND f.subject_id <> f.object_id
  AND f.predicate <> ALL(ARRAY['abbreviated_as', 'abbreviation_of', 'alias', 'alias_of', 'also_known_as', 'became', 'called',
      'formerly', 'formerly_known_as', 'formerly_named', 'has_alias', 'is', 'known_as', 'name_of', 'named', 'now_called',
      'now_known_as', 'rebranded_as', 'renamed', 'renamed_as', 'renamed_from', 'renamed_to', 'same_as', 'short_for',
      'stands_for', 'trades_as', 'trading_as'])
  AND (SELECT true FROM fact_sources s JOIN versions v ON v.id = s.version_id
       WHERE s.fact_id = f.id AND {VISIBLE_SOURCE} LIMIT 1)
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
    edges: dict[Pair, str] = {}
    reached, frontier = set(asked), asked
    while frontier:
        rows = await (await connection.execute(_PAIRS, {**bound, "ids": list(frontier)})).fetchall()
        edges |= {(row["a_id"], row["b_id"]): row["reason"] for row in rows}
        links = [row for row in rows if row["reason"] != DIFFERENT]
        frontier = {one for row in links for one in (row["a_id"], row["b_id"])} - reached
        reached |= frontier
    edges, arrived = await counting(connection, namespace, revision, edges)
    joined = {one for pair in edges for one in pair}
    found = {one: Component(id=one, members=(one,), reasons={}) for one in asked - joined}
    if joined:
        rank = {id_: (not row["visible"], row["seq"]) for id_, row in arrived.items()}
        seq = {id_: row["seq"] for id_, row in arrived.items()}
        for group in connected(edges):
            members = tuple(sorted(group, key=seq.__getitem__))
            root = min(group, key=rank.__getitem__)
            component = Component(id=root, members=members, reasons=_reasons(members, root, edges))
            found |= dict.fromkeys(group & asked, component)
    return found


async def counting(
    connection: Connection, namespace: str, revision: int, pairs: Mapping[Pair, str]
) -> tuple[dict[Pair, str], dict[UUID, dict[str, Any]]]:
    """Those of the visible links that count: none joins, by itself or through others, two that are known to be different.

    Args:
        connection: to the record.
        namespace: of all of them.
        revision: that is looked at.
        pairs: all visible links of some components, and what a model denied.

    Returns:
        The links with their reasons, and of each entity that is linked its `seq`, its `normalised`, its `core`, and whether it
        is `visible`.
    """
    linked = {one for pair, reason in pairs.items() if reason != DIFFERENT for one in pair}
    if not linked:
        return {}, {}
    bound = {"namespace": namespace, "revision": revision, "ids": list(linked)}
    named = {row["id"]: row for row in await (await connection.execute(_ARRIVAL, bound)).fetchall()}
    denied = {
        frozenset(pair) for pair, reason in pairs.items() if reason == DIFFERENT and named.keys() >= {*pair}
    }
    rows = await (await connection.execute(_RELATED, bound)).fetchall()
    related = {frozenset((row["subject_id"], row["object_id"])) for row in rows}
    of_forms = _of_different_forms(named)
    edges = {
        pair: reason
        for pair, reason in pairs.items()
        if reason != DIFFERENT
        and (both := frozenset(pair)) not in related
        and not (reason == "name" and both in of_forms)
        and not (reason in LIKENESS and both in denied)
    }
    # Where a link of the two themselves counts, the rest was a doubt.
    different = related | ((denied | of_forms) - {frozenset(pair) for pair in edges})
    return (_without_bridges(edges, different, named) if different else edges), named


def _of_different_forms(named: Mapping[UUID, Mapping[str, Any]]) -> set[frozenset[UUID]]:
    """Pairs of organisations' names that differ in nothing but their legal forms."""
    forms: dict[str, list[tuple[UUID, frozenset[str]]]] = {}
    for id_, row in named.items():
        if row["core"] and (form := ids.legal_form(row["normalised"], row["core"])):
            forms.setdefault(row["core"], []).append((id_, form))
    return {
        frozenset((one, other))
        for some in forms.values()
        for one, form in some
        for other, other_form in some
        if form != other_form
    }


def _without_bridges(
    edges: Mapping[Pair, str], different: Iterable[frozenset[UUID]], named: Mapping[UUID, Mapping[str, Any]]
) -> dict[Pair, str]:
    """What may be either of two that are different is taken for neither; of a longer way between them the surest links stay.

    What no visible version names any more stands in the way of nothing.
    """
    near: dict[UUID, set[UUID]] = {}
    for a, b in edges:
        near.setdefault(a, set()).add(b)
        near.setdefault(b, set()).add(a)
    apart: dict[UUID, set[UUID]] = {}
    doubtful: set[frozenset[UUID]] = set()
    for one, other in map(tuple, different):
        apart.setdefault(one, set()).add(other)
        apart.setdefault(other, set()).add(one)
        if not (named[one]["visible"] and named[other]["visible"]):
            continue
        for bridge in near.get(one, set()) & near.get(other, set()):
            doubtful |= {frozenset((bridge, one)), frozenset((bridge, other))}

    def sureness(edge: tuple[Pair, str]) -> tuple[bool, int, list[str]]:
        pair, reason = edge
        gone = not all(named[one]["visible"] for one in pair)
        return gone, _REASONS.index(reason), sorted(named[one]["normalised"] for one in pair)

    group_of: dict[UUID, set[UUID]] = {}
    kept: dict[Pair, str] = {}
    for pair, reason in sorted(edges.items(), key=sureness):
        ours, theirs = (group_of.setdefault(one, {one}) for one in pair)
        if frozenset(pair) in doubtful or any(apart.get(one, set()) & theirs for one in ours):
            continue
        kept[pair] = reason
        if ours is not theirs:
            ours |= theirs
            group_of |= dict.fromkeys(theirs, ours)
    return kept


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
