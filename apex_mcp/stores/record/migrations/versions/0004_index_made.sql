-- The mark of the index in use, which tells it from another of its name: on another server, or before it was lost. Null: not known.
ALTER TABLE identity ADD COLUMN index_made text;
