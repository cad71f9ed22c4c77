"""What is checked in the record, as constants: how many there are, which differ, and the statements that mend them."""

from dataclasses import dataclass
from typing import LiteralString

from apex_mcp.stores.record.visibility import CURRENT

_LOST = "the record has lost it: store the document again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One comparison.

    Attributes:
        what: what is compared.
        of: what there is to compare, as a table or a part of one.
        differing: a query of the `id` of each that differs.
        mending: statements that mend those, whose ids are `%(ids)s`; none where that is not possible.
        lock: the same query with locks, where a commit could make one of them right at the same time.
        note: what helps where nothing here does.
    """

    what: str
    of: LiteralString
    differing: LiteralString
    mending: tuple[LiteralString, ...] = ()
    lock: LiteralString | None = None
    note: str = ""


_STANDING: LiteralString = "v.revision_from IS NOT NULL AND v.tombstoned_at IS NULL"

_OVERLAPPING: LiteralString = f"""
SELECT o.id FROM (
    SELECT v.id, v.revision_to,
           lead(v.revision_from) OVER (PARTITION BY v.document_id ORDER BY v.revision_from, v.ingestion_seq) AS following
    FROM versions v WHERE {_STANDING}) AS o
WHERE o.following IS NOT NULL AND (o.revision_to IS NULL OR o.revision_to > o.following)
"""

# One that is followed by another ended where that one begins.
_END_WHERE_THE_NEXT_BEGINS: LiteralString = f"""
UPDATE versions v SET revision_to = o.following FROM (
    SELECT v.id, lead(v.revision_from) OVER (PARTITION BY v.document_id ORDER BY v.revision_from, v.ingestion_seq) AS following
    FROM versions v WHERE {_STANDING}) AS o
WHERE o.id = v.id AND o.following IS NOT NULL AND (v.revision_to IS NULL OR v.revision_to > o.following)
"""

_LOG_OVERLAPPING: LiteralString = f"INSERT INTO index_log (version_id) {_OVERLAPPING}"

_WITHOUT_VECTORS: LiteralString = """
SELECT v.id FROM versions v JOIN identity i ON i.embedder = v.embedded_with
WHERE v.tombstoned_at IS NULL AND EXISTS (
    SELECT 1 FROM chunks c LEFT JOIN chunk_vectors e ON e.chunk_id = c.id AND e.embedder = v.embedded_with
    WHERE c.version_id = v.id AND e.chunk_id IS NULL)
"""

_NO_SOURCE: LiteralString = "NOT EXISTS (SELECT 1 FROM entity_sources s WHERE s.entity_id = e.id)"
_NOT_STATED: LiteralString = "NOT EXISTS (SELECT 1 FROM fact_sources s WHERE s.fact_id = f.id)"

_FOREIGN_MENTION: LiteralString = """
EXISTS (SELECT 1 FROM unnest(s.chunk_ids) AS u(id) LEFT JOIN chunks c ON c.id = u.id AND c.version_id = s.version_id
        WHERE c.id IS NULL)
"""
_FOREIGN_STATEMENT: LiteralString = (
    "NOT EXISTS (SELECT 1 FROM chunks c WHERE c.id = s.chunk_id AND c.version_id = s.version_id)"
)
# Where passages were lost, what they named and stated is all that is left of them.
_WHOLE: LiteralString = """
(SELECT count(*) FROM chunks c WHERE c.version_id = s.version_id) =
(SELECT v.chunk_count FROM versions v WHERE v.id = s.version_id)
"""

_LOST_ALIAS: LiteralString = """
NOT EXISTS (SELECT 1 FROM entity_sources s WHERE s.entity_id = a.entity_id AND a.key = ANY(s.alias_keys))
"""

_UNLISTED_ALIASES: LiteralString = """
SELECT DISTINCT e.namespace, k.key, e.id FROM entities e JOIN entity_sources s ON s.entity_id = e.id
CROSS JOIN LATERAL unnest(s.alias_keys) AS k(key)
WHERE NOT EXISTS (SELECT 1 FROM entity_aliases a WHERE a.namespace = e.namespace AND a.key = k.key AND a.entity_id = e.id)
"""

_GAPS: LiteralString = """
SELECT n.name || ' ' || g.revision AS id FROM namespaces n
CROSS JOIN LATERAL generate_series(1, greatest(
    n.revision, (SELECT max(revision) FROM revisions r WHERE r.namespace = n.name))) AS g(revision)
LEFT JOIN revisions r ON r.namespace = n.name AND r.revision = g.revision
WHERE r.revision IS NULL OR g.revision > n.revision
"""

CHECKS: tuple[Check, ...] = (
    Check(
        what="documents have one current version",
        of="documents",
        differing=f"SELECT v.document_id AS id FROM versions v WHERE {CURRENT} GROUP BY 1 HAVING count(*) > 1",
        mending=(_LOG_OVERLAPPING, _END_WHERE_THE_NEXT_BEGINS),
    ),
    Check(
        what="versions of a document follow each other",
        of="versions",
        differing=_OVERLAPPING,
        mending=(_LOG_OVERLAPPING, _END_WHERE_THE_NEXT_BEGINS),
    ),
    Check(
        what="revisions have no gaps",
        of="revisions",
        differing=_GAPS,
        mending=(
            "UPDATE namespaces n SET revision = r.latest FROM (SELECT namespace, max(revision) AS latest FROM revisions "
            "GROUP BY 1) AS r WHERE r.namespace = n.name AND r.latest > n.revision",
            # When it became current is still to be seen in what did, else it was before the next one did.
            "INSERT INTO revisions (namespace, revision, committed_at) SELECT n.name, g.revision, coalesce("
            "(SELECT min(v.committed_at) FROM versions v WHERE v.namespace = n.name AND v.revision_from = g.revision), "
            "(SELECT min(r.committed_at) FROM revisions r WHERE r.namespace = n.name AND r.revision > g.revision), "
            "clock_timestamp()) FROM namespaces n CROSS JOIN LATERAL generate_series(1, n.revision) AS g(revision) "
            "ON CONFLICT DO NOTHING",
        ),
    ),
    Check(
        what="versions have all their passages",
        of="versions",
        differing="SELECT v.id FROM versions v LEFT JOIN chunks c ON c.version_id = v.id WHERE v.tombstoned_at IS NULL "
        "GROUP BY v.id HAVING count(c.id) <> v.chunk_count",
        note=_LOST,
    ),
    Check(
        what="versions have their text",
        of="versions",
        differing="SELECT v.id FROM versions v WHERE v.tombstoned_at IS NULL "
        "AND NOT EXISTS (SELECT 1 FROM version_texts t WHERE t.version_id = v.id)",
        note=_LOST,
    ),
    Check(
        what="versions have the vectors that they are said to have",
        of="versions",
        differing=_WITHOUT_VECTORS,
        # From then on they are owed, and come as others do that were not computed yet.
        mending=("UPDATE versions SET embedded_with = NULL WHERE id = ANY(%(ids)s::uuid[])",),
    ),
    Check(
        what="removed versions wait to be purged",
        of="versions v WHERE v.tombstoned_at IS NOT NULL",
        differing="SELECT v.id FROM versions v WHERE v.tombstoned_at IS NOT NULL "
        "AND NOT EXISTS (SELECT 1 FROM purges p WHERE p.version_id = v.id AND p.next_pass_at IS NOT NULL)",
        mending=(
            "INSERT INTO purges (version_id, ingestion_id) SELECT id, ingestion_id FROM versions "
            "WHERE id = ANY(%(ids)s::uuid[]) ON CONFLICT (version_id) DO UPDATE SET passes = 0, "
            "next_pass_at = clock_timestamp()",
        ),
    ),
    Check(
        what="mentions are in passages of their version",
        of="entity_sources",
        differing=f"SELECT s.entity_id AS id FROM entity_sources s WHERE {_FOREIGN_MENTION}",
        mending=(
            "UPDATE entity_sources s SET chunk_ids = ARRAY(SELECT c.id FROM unnest(s.chunk_ids) AS u(id) JOIN chunks c "
            f"ON c.id = u.id AND c.version_id = s.version_id) WHERE s.entity_id = ANY(%(ids)s::uuid[]) "
            f"AND {_FOREIGN_MENTION} AND {_WHOLE}",
        ),
        note=_LOST,
    ),
    Check(
        what="facts are stated by passages of their version",
        of="fact_sources",
        differing=f"SELECT s.fact_id AS id FROM fact_sources s WHERE {_FOREIGN_STATEMENT}",
        mending=(
            "DELETE FROM fact_sources s WHERE s.fact_id = ANY(%(ids)s::uuid[]) "
            f"AND {_FOREIGN_STATEMENT} AND {_WHOLE}",
        ),
        note=_LOST,
    ),
    Check(
        what="facts have a source",
        of="facts",
        differing=f"SELECT f.id FROM facts f WHERE {_NOT_STATED}",
        lock=f"SELECT f.id FROM facts f WHERE {_NOT_STATED} ORDER BY f.id FOR UPDATE",
        mending=(f"DELETE FROM facts f WHERE f.id = ANY(%(ids)s::uuid[]) AND {_NOT_STATED}",),
    ),
    Check(
        what="entities have a source",
        of="entities",
        differing=f"SELECT e.id FROM entities e WHERE {_NO_SOURCE}",
        lock=f"SELECT e.id FROM entities e WHERE {_NO_SOURCE} ORDER BY e.id FOR UPDATE",
        mending=(f"DELETE FROM entities e WHERE e.id = ANY(%(ids)s::uuid[]) AND {_NO_SOURCE}",),
    ),
    Check(
        what="aliases have a source",
        of="entity_aliases",
        differing=f"SELECT a.entity_id AS id FROM entity_aliases a WHERE {_LOST_ALIAS}",
        lock=f"SELECT e.id FROM entities e WHERE e.id IN (SELECT a.entity_id FROM entity_aliases a WHERE {_LOST_ALIAS}) "
        "ORDER BY e.id FOR UPDATE",
        mending=(f"DELETE FROM entity_aliases a WHERE a.entity_id = ANY(%(ids)s::uuid[]) AND {_LOST_ALIAS}",),
    ),
    Check(
        what="entities are found by their aliases",
        of="entity_aliases",
        differing=f"SELECT u.id FROM ({_UNLISTED_ALIASES}) AS u",
        mending=(
            f"INSERT INTO entity_aliases (namespace, key, entity_id) {_UNLISTED_ALIASES} ON CONFLICT DO NOTHING",
        ),
    ),
    Check(
        what="links of entities have their pair",
        of="entity_links",
        differing="SELECT l.a_id AS id FROM entity_links l "
        "WHERE NOT EXISTS (SELECT 1 FROM entity_pairs p WHERE p.a_id = l.a_id AND p.b_id = l.b_id)",
        mending=(
            "INSERT INTO entity_pairs (a_id, b_id) SELECT DISTINCT l.a_id, l.b_id FROM entity_links l "
            "ON CONFLICT DO NOTHING",
        ),
    ),
    Check(
        what="pairs of entities have a link",
        of="entity_pairs",
        differing="SELECT p.a_id AS id FROM entity_pairs p "
        "WHERE NOT EXISTS (SELECT 1 FROM entity_links l WHERE l.a_id = p.a_id AND l.b_id = p.b_id)",
        # Links are made with the namespace's row locked.
        lock="SELECT n.name AS id FROM namespaces n ORDER BY n.name FOR NO KEY UPDATE",
        mending=(
            "DELETE FROM entity_pairs p "
            "WHERE NOT EXISTS (SELECT 1 FROM entity_links l WHERE l.a_id = p.a_id AND l.b_id = p.b_id)",
        ),
    ),
    Check(
        what="ends of facts are of facts that are there",
        of="fact_ends",
        differing="SELECT x.fact_id AS id FROM fact_ends x LEFT JOIN facts f ON f.id = x.fact_id "
        "LEFT JOIN facts b ON b.id = x.by_fact_id WHERE f.id IS NULL OR b.id IS NULL",
        mending=(
            "DELETE FROM fact_ends x WHERE NOT EXISTS (SELECT 1 FROM facts f WHERE f.id = x.fact_id) "
            "OR NOT EXISTS (SELECT 1 FROM facts f WHERE f.id = x.by_fact_id)",
        ),
    ),
    Check(
        what="ingestions that are over wait for nobody",
        of="outbox",
        differing="SELECT o.ingestion_id AS id FROM outbox o LEFT JOIN ingestions i ON i.id = o.ingestion_id "
        "AND i.state IN ('pending', 'running') WHERE i.id IS NULL",
        mending=("DELETE FROM outbox WHERE ingestion_id = ANY(%(ids)s::uuid[])",),
    ),
    Check(
        what="ingestions that are not over are waited for",
        of="ingestions i WHERE i.state IN ('pending', 'running')",
        differing="SELECT i.id FROM ingestions i WHERE i.state IN ('pending', 'running') "
        "AND NOT EXISTS (SELECT 1 FROM outbox o WHERE o.ingestion_id = i.id)",
        mending=(
            "UPDATE ingestions SET state = 'pending', step = 'accepted', claim = NULL WHERE id = ANY(%(ids)s::uuid[])",
            "INSERT INTO outbox (ingestion_id, seq, namespace, document_id, lane, bulk) SELECT id, seq, namespace, "
            "document_id, lane, bulk FROM ingestions WHERE id = ANY(%(ids)s::uuid[]) ON CONFLICT DO NOTHING",
        ),
    ),
)

# What a crash can leave behind, and is mended without being asked for.
STUCK: tuple[Check, ...] = CHECKS[-2:]
