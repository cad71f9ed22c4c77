"""What is visible at a revision of a namespace, as pieces of SQL.

They take `%(namespace)s` and `%(revision)s`, call the version `v`, and the rows that hang on it `s` (sources) or `l` (links).
"""

from typing import LiteralString

# A version counts where the asked revision lies between its own.
VISIBLE: LiteralString = """
v.namespace = %(namespace)s AND v.tombstoned_at IS NULL AND v.revision_from <= %(revision)s
AND (v.revision_to IS NULL OR v.revision_to > %(revision)s)
"""

# The version counts now, whatever revision is asked about.
CURRENT: LiteralString = "v.revision_from IS NOT NULL AND v.revision_to IS NULL AND v.tombstoned_at IS NULL"

# What a model found counts from the version's second commit on.
PUBLISHED_SOURCE: LiteralString = "(s.layer = 0 OR v.enriched_from <= %(revision)s)"
PUBLISHED_LINK: LiteralString = "(l.layer = 0 OR v.enriched_from <= %(revision)s)"

VISIBLE_SOURCE: LiteralString = f"({VISIBLE}) AND {PUBLISHED_SOURCE}"
VISIBLE_LINK: LiteralString = f"({VISIBLE}) AND {PUBLISHED_LINK}"

# Whether a visible version names the entity `e`. Not by EXISTS, for which the planner may read every mention of the namespace.
NAMED: LiteralString = f"""
coalesce((SELECT true FROM entity_sources s JOIN versions v ON v.id = s.version_id
          WHERE s.entity_id = e.id AND {VISIBLE_SOURCE} LIMIT 1), false)
"""

# A user's word that a pair is not one; the pair is called `p`. It outlives both of them, and they may come back the other
# way round.
SPLIT: LiteralString = """
EXISTS (SELECT 1 FROM entity_splits x
        WHERE ((x.a_id = p.a_id AND x.b_id = p.b_id) OR (x.a_id = p.b_id AND x.b_id = p.a_id))
          AND x.revision_from <= %(revision)s AND (x.revision_to IS NULL OR x.revision_to > %(revision)s))
"""

# The reason of a row that says the opposite of a link: a model was asked, and said no. Its `a` came after its `b`, so that the
# two have a pair apart from the one of their links.
DIFFERENT: LiteralString = "different"

# An alias that things of different names have tells nothing, unless they are one. Of the pair `p`, `n` is called by the alias
# and `h` has it, as another one, `x`, has it too.
AMBIGUOUS: LiteralString = f"""
coalesce((
    SELECT true FROM entities n JOIN entities h ON n.id IN (p.a_id, p.b_id) AND h.id IN (p.a_id, p.b_id) AND h.id <> n.id
    JOIN entity_aliases o ON o.namespace = n.namespace AND o.key = n.normalised AND o.entity_id = h.id
    JOIN entity_aliases a ON a.namespace = n.namespace AND a.key = n.normalised
    JOIN entities x ON x.id = a.entity_id AND x.core <> h.core AND x.id <> n.id
    JOIN entity_sources s ON s.entity_id = x.id JOIN versions v ON v.id = s.version_id
    WHERE n.normalised = ANY(s.alias_keys) AND {VISIBLE_SOURCE} AND NOT EXISTS (
        SELECT 1 FROM entity_pairs p
        JOIN entity_links l ON l.a_id = p.a_id AND l.b_id = p.b_id JOIN versions v ON v.id = l.version_id
        WHERE ((p.a_id = h.id AND p.b_id = x.id) OR (p.a_id = x.id AND p.b_id = h.id)) AND l.reason <> '{DIFFERENT}'
          AND {VISIBLE_LINK} AND NOT {SPLIT})
    LIMIT 1), false)
"""

# Why the pair `p` is linked, or that it is denied; no row where nothing visible says so. What no alias links is most of it.
LINK: LiteralString = f"""
(SELECT l.reason FROM entity_links l JOIN versions v ON v.id = l.version_id
 WHERE l.a_id = p.a_id AND l.b_id = p.b_id AND l.reason <> 'alias' AND {VISIBLE_LINK} LIMIT 1)
UNION ALL
(SELECT l.reason FROM entity_links l JOIN versions v ON v.id = l.version_id
 WHERE l.a_id = p.a_id AND l.b_id = p.b_id AND l.reason = 'alias' AND {VISIBLE_LINK} AND NOT {AMBIGUOUS} LIMIT 1)
LIMIT 1
"""

# What every answer says of where it comes from; the document is called `d`.
SOURCE: LiteralString = """
v.document_id, v.id AS version_id, v.number, v.title, v.uri, v.source_type, v.media_type, v.document_time, v.metadata,
v.committed_at, v.revision_to IS NULL AS current, d.key
"""
