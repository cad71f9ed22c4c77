-- The index that is being filled, the one in use or one that is to take its place; all null while none is. What changed since
-- filling_start is replayed to it at its end, so the log is not cut beyond that.
ALTER TABLE identity ADD COLUMN filling_index text, ADD COLUMN filling_embedder text, ADD COLUMN filling_start xid8,
    ADD COLUMN filling_since timestamptz;
