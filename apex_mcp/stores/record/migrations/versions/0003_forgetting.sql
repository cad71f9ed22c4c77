-- What was forgotten, without saying what: a keyed hash keeps an import or a sync from bringing it back. The user's own hand may.
CREATE TABLE forget_keys (
    id         uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    secret     bytea NOT NULL,                  -- of HMAC-SHA256
    own        boolean NOT NULL DEFAULT false,  -- new tombstones are made with it; the others came with archives
    created_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE UNIQUE INDEX forget_keys_own ON forget_keys (own) WHERE own;
INSERT INTO forget_keys (secret, own) VALUES
    (decode(replace(gen_random_uuid()::text || gen_random_uuid()::text, '-', ''), 'hex'), true);

CREATE TABLE tombstones (
    key_id       uuid NOT NULL REFERENCES forget_keys ON DELETE CASCADE,
    digest       bytea NOT NULL,
    kind         text NOT NULL,                 -- document, entity
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    lifted_at    timestamptz,                   -- the user gave it again: an archive that was made before does not undo that
    PRIMARY KEY (key_id, digest)
);
CREATE INDEX tombstones_entity ON tombstones (kind) WHERE kind = 'entity' AND lifted_at IS NULL;

-- Each request to forget: counts and times. Invisible at once; `removed_at` says when rows and indexes were rid of it, and
-- `erased_at` when the files were.
CREATE TABLE forgettings (
    id           uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind         text NOT NULL,                 -- documents, entity, time_range, namespace
    forgotten_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    documents    int NOT NULL,
    versions     int NOT NULL,
    entities     int NOT NULL,
    facts        int NOT NULL,
    request_id   text UNIQUE,                   -- the sender's id of the call: sent again it is the same one
    removed_at   timestamptz,
    erased_at    timestamptz
);
CREATE INDEX forgettings_open ON forgettings (forgotten_at) WHERE erased_at IS NULL;

-- A purge of what was forgotten also takes what is staged for a retry, and the document itself once nothing hangs on it.
ALTER TABLE purges ADD COLUMN forgets boolean NOT NULL DEFAULT false;
ALTER TABLE purges ADD COLUMN forgetting_id uuid REFERENCES forgettings ON DELETE SET NULL;
ALTER TABLE purges ADD COLUMN document_id uuid;
CREATE INDEX purges_forgetting ON purges (forgetting_id) WHERE forgetting_id IS NOT NULL;

-- Replaced versions older than this were pruned, so what was known before it cannot be told in full any more.
ALTER TABLE namespaces ADD COLUMN known_from timestamptz;

-- Whether a process with a model works on this memory: then every commit notes what it is to read, whoever commits.
ALTER TABLE identity ADD COLUMN read_by_model boolean NOT NULL DEFAULT false;

-- How often the index in use was made anew, empty: who searched before and after that saw two indexes.
ALTER TABLE identity ADD COLUMN index_losses integer NOT NULL DEFAULT 0;

-- The revision of the last second commit: what was resolved before it did not see it.
ALTER TABLE namespaces ADD COLUMN enriched_at bigint NOT NULL DEFAULT 0;

-- Archives and backups that were made: they hold what was forgotten after, and can only be named, not reached.
CREATE TABLE archives (
    id        uuid PRIMARY KEY DEFAULT gen_random_uuid(),
    kind      text NOT NULL,                    -- export, backup
    name      text NOT NULL,                    -- the file's, without its folder
    namespace text,                             -- null: all of them
    made_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    documents bigint NOT NULL
);

-- Imports, so that an interrupted one is carried on: which archive (SHA-256 of its manifest) goes into which namespace.
CREATE TABLE imports (
    archive     text NOT NULL,
    namespace   text NOT NULL REFERENCES namespaces ON DELETE CASCADE,
    revision    bigint,                         -- of the namespace, while it holds this archive and nothing else; else null
    arrivals    bigint NOT NULL,                -- entities of the archive came after this one (`entities.seq`)
    begun_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    finished_at timestamptz,
    PRIMARY KEY (archive, namespace)
);

-- A version that came with an archive overtakes nothing that was accepted here, whenever that was.
ALTER TABLE versions ADD COLUMN imported boolean NOT NULL DEFAULT false;
-- The embedder whose vectors all names have that a model found in the version; where they lack, the upkeep brings them.
ALTER TABLE versions ADD COLUMN names_embedded_with text;
CREATE INDEX versions_names ON versions (names_embedded_with, ingestion_seq)
    WHERE enriched_from IS NOT NULL AND revision_to IS NULL AND tombstoned_at IS NULL;
