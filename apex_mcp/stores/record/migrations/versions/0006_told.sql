-- How far the index in use was going to be flushed, noted before it is; null where that is not known. How many pages of changes
-- the graph index was told, counted in the graph first.
ALTER TABLE identity ADD COLUMN index_position xid8, ADD COLUMN graph_told bigint NOT NULL DEFAULT 0;
