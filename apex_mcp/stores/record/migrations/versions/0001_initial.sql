-- The record: everything that cannot be recomputed cheaply. Revisions are per namespace; a row is visible at revision R
-- when revision_from <= R and (revision_to is null or revision_to > R).

CREATE TABLE identity (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    record_id  uuid NOT NULL DEFAULT gen_random_uuid(),
    embedder   text,                             -- whose vectors the record holds
    index_name text NOT NULL DEFAULT 'index-0',  -- folder of the vector index in use
    created_at timestamptz NOT NULL DEFAULT now()
);
INSERT INTO identity DEFAULT VALUES;

CREATE TABLE namespaces (
    name       text PRIMARY KEY,
    revision   bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now()
);

-- known_at: the time at which each revision became current.
CREATE TABLE revisions (
    namespace    text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    revision     bigint NOT NULL,
    committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (namespace, revision)
);

CREATE TABLE documents (
    id         uuid PRIMARY KEY,
    namespace  text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    key        text NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (namespace, key)
);

CREATE TABLE ingestions (
    id                  uuid PRIMARY KEY,
    seq                 bigint GENERATED ALWAYS AS IDENTITY UNIQUE,  -- order of acceptance
    namespace           text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    document_id         uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    request             jsonb NOT NULL,
    content             text,                                       -- inline text, until it is searchable
    fingerprint         text NOT NULL,
    idempotency_key     text,
    request_id          text,
    lane                text NOT NULL,
    bulk                boolean NOT NULL,
    state               text NOT NULL DEFAULT 'pending',
    step                text NOT NULL DEFAULT 'accepted',
    claim               uuid,
    workflow_id         text,
    attempts            int NOT NULL DEFAULT 0,
    cancel_requested_at timestamptz,
    failure             jsonb,
    result              jsonb NOT NULL DEFAULT '{}',
    accepted_at         timestamptz NOT NULL DEFAULT clock_timestamp(),
    started_at          timestamptz,
    finished_at         timestamptz
);
CREATE UNIQUE INDEX ingestions_idempotency ON ingestions (namespace, idempotency_key)
    WHERE idempotency_key IS NOT NULL;
CREATE UNIQUE INDEX ingestions_request ON ingestions (request_id) WHERE request_id IS NOT NULL;
CREATE UNIQUE INDEX ingestions_same ON ingestions (document_id, fingerprint) WHERE state IN ('pending', 'running');
CREATE INDEX ingestions_recent ON ingestions (namespace, seq DESC);
CREATE INDEX ingestions_unfinished ON ingestions (state) WHERE state IN ('pending', 'running');

-- An entry ends only when its ingestion is final.
CREATE TABLE outbox (
    ingestion_id uuid PRIMARY KEY REFERENCES ingestions ON DELETE CASCADE,
    seq          bigint NOT NULL,
    namespace    text NOT NULL,
    document_id  uuid NOT NULL,
    lane         text NOT NULL,
    bulk         boolean NOT NULL,
    lease_owner  text,
    lease_until  timestamptz
);
CREATE INDEX outbox_waiting ON outbox (namespace, lane, bulk, seq) WHERE lease_owner IS NULL;
CREATE INDEX outbox_document ON outbox (document_id, seq);
CREATE INDEX outbox_leased ON outbox (lease_until) WHERE lease_owner IS NOT NULL;

CREATE TABLE versions (
    id            uuid PRIMARY KEY,
    document_id   uuid NOT NULL REFERENCES documents ON DELETE CASCADE,
    namespace     text NOT NULL,
    ingestion_id  uuid NOT NULL UNIQUE,
    ingestion_seq bigint NOT NULL,
    number        int,                         -- order of acceptance among the committed
    content_hash  text NOT NULL,
    title         text NOT NULL,
    uri           text NOT NULL,
    source_type   text NOT NULL,
    media_type    text NOT NULL,
    document_time timestamptz,
    metadata      jsonb NOT NULL,
    warnings      jsonb NOT NULL,
    chunk_count   int NOT NULL,
    page_count    int,
    embedded_with text,                        -- the embedder whose vectors all its chunks have
    revision_from bigint,
    revision_to   bigint,
    committed_at  timestamptz,
    tombstoned_at timestamptz,
    UNIQUE (document_id, number)
);
CREATE UNIQUE INDEX versions_current ON versions (document_id)
    WHERE revision_from IS NOT NULL AND revision_to IS NULL AND tombstoned_at IS NULL;
CREATE INDEX versions_newest ON versions (namespace, ingestion_seq DESC) WHERE revision_to IS NULL;
CREATE INDEX versions_embedding ON versions (embedded_with, ingestion_seq) WHERE tombstoned_at IS NULL;

CREATE TABLE version_texts (
    version_id uuid PRIMARY KEY REFERENCES versions ON DELETE CASCADE,
    text       text NOT NULL,
    pages      jsonb NOT NULL,
    headings   jsonb NOT NULL
);

CREATE TABLE chunks (
    id           uuid PRIMARY KEY,
    version_id   uuid NOT NULL REFERENCES versions ON DELETE CASCADE,
    ordinal      int NOT NULL,
    text         text NOT NULL,
    start_offset int NOT NULL,
    end_offset   int NOT NULL,
    page_from    int,
    page_to      int,
    heading_path jsonb NOT NULL,
    tokens       int NOT NULL,
    UNIQUE (version_id, ordinal)
);

CREATE TABLE chunk_vectors (
    chunk_id uuid NOT NULL REFERENCES chunks ON DELETE CASCADE,
    embedder text NOT NULL,
    vector   bytea STORAGE EXTERNAL NOT NULL,   -- little-endian float32
    PRIMARY KEY (chunk_id, embedder)
);

-- Only the identity of an entity is shared; name, type and aliases are what each version says, so that nothing of a version
-- that is not visible shows.
CREATE TABLE entities (
    id         uuid PRIMARY KEY,
    namespace  text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    normalised text NOT NULL
);
CREATE INDEX entities_name ON entities (namespace, normalised text_pattern_ops);

CREATE TABLE entity_sources (
    entity_id  uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    version_id uuid NOT NULL REFERENCES versions ON DELETE CASCADE,
    name       text NOT NULL,
    type       text NOT NULL,
    aliases    text[] NOT NULL,
    alias_keys text[] NOT NULL,         -- normalised, as names are looked up
    chunk_ids  uuid[] NOT NULL,
    PRIMARY KEY (entity_id, version_id)
);
CREATE INDEX entity_sources_version ON entity_sources (version_id);

CREATE TABLE facts (
    id          uuid PRIMARY KEY,
    namespace   text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    subject_id  uuid NOT NULL REFERENCES entities ON DELETE CASCADE,
    predicate   text NOT NULL,
    object_id   uuid NOT NULL,          -- of the entity that has this name, should there be one
    object_text text NOT NULL
);
CREATE INDEX facts_subject ON facts (subject_id);
CREATE INDEX facts_object ON facts (object_id);

CREATE TABLE fact_sources (
    fact_id    uuid NOT NULL REFERENCES facts ON DELETE CASCADE,
    version_id uuid NOT NULL REFERENCES versions ON DELETE CASCADE,
    chunk_id   uuid NOT NULL,
    sentence   text NOT NULL,
    valid_at   timestamptz,
    invalid_at timestamptz,
    PRIMARY KEY (fact_id, version_id)
);
CREATE INDEX fact_sources_version ON fact_sources (version_id);

-- What an index must look at again when it opens: every version whose state changed in transaction `xid`.
CREATE TABLE index_log (
    seq        bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    xid        xid8 NOT NULL DEFAULT pg_current_xact_id(),
    version_id uuid NOT NULL
);
CREATE INDEX index_log_xid ON index_log (xid);

-- Removal of a version from every store, repeated until done, and once more after the longest step.
CREATE TABLE purges (
    version_id   uuid PRIMARY KEY,
    ingestion_id uuid NOT NULL,
    requested_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    passes       int NOT NULL DEFAULT 0,
    next_pass_at timestamptz DEFAULT clock_timestamp()
);
CREATE INDEX purges_due ON purges (next_pass_at) WHERE next_pass_at IS NOT NULL;
