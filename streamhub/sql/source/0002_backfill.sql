-- `capture backfill`: the mark on what it writes to the outbox, and how far it has come.

-- Null for what the triggers write: they do not name it, and a null costs them nothing.
ALTER TABLE streamhub.outbox ADD COLUMN backfill boolean;

-- One row a capture, kept when it is finished. A capture that was replaced is another one, whose rows look different,
-- so its backfill begins anew.
CREATE TABLE streamhub.backfills (
  capture      integer PRIMARY KEY REFERENCES streamhub.captures (id) ON DELETE CASCADE,
  leaf         oid,                     -- the table, or the leaf partition, that is being read
  key_columns  text[],                  -- the columns in whose order it is read
  position     text[],                  -- their values in the last row that was sent: all up to it were
  done         oid[] NOT NULL DEFAULT '{}',  -- the leaves that were read to their ends
  rows         bigint NOT NULL DEFAULT 0,    -- sent; one that was sent twice counts twice
  started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  updated_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at  timestamptz
);
REVOKE ALL ON streamhub.backfills FROM PUBLIC;
