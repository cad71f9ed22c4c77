-- A version's second commit: what a model found in it becomes visible at revision `enriched_from`. Rows of layer 0 came with
-- the text (rules, caller), rows of layer 1 from a model; those are hidden until then.

ALTER TABLE versions ADD COLUMN enriched_from bigint;

ALTER TABLE entity_sources ADD COLUMN layer smallint NOT NULL DEFAULT 0;
ALTER TABLE entity_sources DROP CONSTRAINT entity_sources_pkey, ADD PRIMARY KEY (entity_id, version_id, layer);
ALTER TABLE fact_sources ADD COLUMN layer smallint NOT NULL DEFAULT 0;
ALTER TABLE fact_sources DROP CONSTRAINT fact_sources_pkey, ADD PRIMARY KEY (fact_id, version_id, layer);

-- What is owed to a version by a model, and how it went.
CREATE TABLE enrichments (
    version_id   uuid PRIMARY KEY REFERENCES versions ON DELETE CASCADE,
    seq          bigint GENERATED ALWAYS AS IDENTITY,
    ingestion_id uuid NOT NULL,
    namespace    text NOT NULL,
    state        text NOT NULL DEFAULT 'pending',   -- pending, running, done, failed, superseded
    claim        uuid,
    lease_owner  text,
    lease_until  timestamptz,
    attempts     int NOT NULL DEFAULT 0,
    losses       int NOT NULL DEFAULT 0,            -- runs that ended without a word, as when the process is killed
    failure      jsonb,                             -- also why a pending one waits
    usage        jsonb NOT NULL DEFAULT '{}',       -- requests, tokens in and out
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    not_before   timestamptz,
    finished_at  timestamptz
);
CREATE INDEX enrichments_waiting ON enrichments (namespace, seq) WHERE state = 'pending';
CREATE INDEX enrichments_leased ON enrichments (lease_owner) WHERE state = 'running';
CREATE UNIQUE INDEX enrichments_ingestion ON enrichments (ingestion_id);

-- What a model answered about a version's text: never asked again, and gone with the version.
CREATE TABLE model_answers (
    version_id uuid NOT NULL REFERENCES versions ON DELETE CASCADE,
    key        text NOT NULL,                       -- hash of the model, its instructions and what it was asked
    namespace  text NOT NULL,
    answer     jsonb NOT NULL,
    created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (version_id, key)
);
CREATE INDEX model_answers_key ON model_answers (namespace, key);

-- The core of a name is what its spellings share ("acme" of "ACME Corp." and "ACME Corporation"); `seq` is the order of arrival.
ALTER TABLE entities ADD COLUMN core text NOT NULL DEFAULT '';
ALTER TABLE entities ADD COLUMN seq bigint GENERATED ALWAYS AS IDENTITY;
CREATE INDEX entities_core ON entities (namespace, core);
CREATE INDEX entities_words ON entities USING gin (string_to_array(translate(normalised, ',.;()/-', '       '), ' '))
    WITH (gin_pending_list_limit = 128);

-- Which entities any version gave an alias, to find them by it; whether it is visible stands in entity_sources.
CREATE TABLE entity_aliases (
    namespace text NOT NULL,
    key       text NOT NULL,                        -- normalised
    entity_id uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    PRIMARY KEY (namespace, key, entity_id)
);
CREATE INDEX entity_aliases_entity ON entity_aliases (entity_id);
CREATE INDEX entity_aliases_words ON entity_aliases USING gin (string_to_array(translate(key, ',.;()/-', '       '), ' '))
    WITH (gin_pending_list_limit = 128);
INSERT INTO entity_aliases (namespace, key, entity_id)
SELECT DISTINCT e.namespace, a.key, e.id
FROM entities e JOIN entity_sources s ON s.entity_id = e.id CROSS JOIN LATERAL unnest(s.alias_keys) AS a(key);

-- Two ids that name one thing, by a reason that stands in a version; it counts while that version is visible, and goes with
-- it. Linked entities are shown as the one that came first. a came before b.
CREATE TABLE entity_pairs (                         -- each pair once, however many versions link it
    a_id uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    b_id uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    PRIMARY KEY (a_id, b_id)
);
CREATE INDEX entity_pairs_b ON entity_pairs (b_id);
CREATE TABLE entity_links (
    a_id       uuid NOT NULL,
    b_id       uuid NOT NULL,
    version_id uuid NOT NULL REFERENCES versions ON DELETE CASCADE,
    layer      smallint NOT NULL DEFAULT 0,
    reason     text NOT NULL,                       -- name, alias, meaning, model
    PRIMARY KEY (a_id, b_id, version_id, layer),
    FOREIGN KEY (a_id, b_id) REFERENCES entity_pairs ON DELETE CASCADE
);
CREATE INDEX entity_links_version ON entity_links (version_id);

-- The user's word that two are not one: from its revision on their link does not count.
CREATE TABLE entity_splits (
    namespace     text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    a_id          uuid NOT NULL,
    b_id          uuid NOT NULL,
    revision_from bigint NOT NULL,
    revision_to   bigint,
    created_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (a_id, b_id, revision_from)
);

-- A fact that a model says was ended by another one; it counts while this version and a source of the other are visible.
CREATE TABLE fact_ends (
    fact_id    uuid NOT NULL REFERENCES facts ON DELETE CASCADE,
    by_fact_id uuid NOT NULL REFERENCES facts ON DELETE CASCADE,
    version_id uuid NOT NULL REFERENCES versions ON DELETE CASCADE,
    invalid_at timestamptz NOT NULL,
    PRIMARY KEY (fact_id, by_fact_id, version_id)
);
CREATE INDEX fact_ends_by ON fact_ends (by_fact_id);
CREATE INDEX fact_ends_version ON fact_ends (version_id);

CREATE TABLE entity_vectors (
    entity_id uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    embedder  text NOT NULL,
    vector    bytea STORAGE EXTERNAL NOT NULL,      -- of the name, little-endian float32
    PRIMARY KEY (entity_id, embedder)
);

-- What a graph index on a server has yet to be told: what changed in the record. Empty where there is none.
CREATE TABLE graph_changes (
    seq       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    namespace text NOT NULL,
    kind      text NOT NULL,                        -- entity, fact, chunk; forgetting: what stands before it
    id        uuid NOT NULL,                        -- of a fact its subject's: the fact itself may be gone
    predicate text,
    object_id uuid
);
CREATE INDEX graph_changes_namespace ON graph_changes (namespace);

ALTER TABLE identity ADD COLUMN graph text;         -- which graph index is kept up to date; null while there is none
ALTER TABLE identity ADD COLUMN log_begins xid8;    -- the index log was cut before this transaction
ALTER TABLE identity ADD COLUMN index_whole boolean NOT NULL DEFAULT true;  -- false while it is filled from the record
