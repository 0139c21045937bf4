-- The outbox becomes a table of ten columns, streamhub.changes, instead of fifteen. What a row is about is the same for
-- all changes of a table until that is altered, so it is one text, which a capture's function has as a constant. Each
-- column costs a writer about 1,500 instructions, whether or not it is null: PostgreSQL prepares the whole row anew in
-- each transaction.
--
-- The former table stays: a statement that runs while this does may write there still, since it goes on with the
-- function that it began with. Both take their numbers from one sequence, and the relay reads both, through the view
-- streamhub.waiting. So nothing here waits for a writer, or makes one wait.

-- One row a change, gone once the relay has it in history. xid stands before seq so that its default is evaluated
-- first: whoever takes a sequence number already holds its transaction id, and the relay's floor rests on that.
CREATE TABLE streamhub.changes (
  xid         xid8 NOT NULL DEFAULT pg_current_xact_id(),
  seq         bigint PRIMARY KEY DEFAULT nextval('streamhub.outbox_seq_seq'),
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  origin      text NOT NULL,            -- see streamhub.origin
  old_ctid    tid,
  new_ctid    tid,
  chained     boolean,                  -- replaces a row version of its own transaction: the order needs a look
  who         text,                     -- empty for none
  old_row     text,                     -- row_to_json(OLD)
  new_row     text                      -- row_to_json(NEW)
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000,
        autovacuum_vacuum_insert_threshold = -1, autovacuum_analyze_scale_factor = 0,
        autovacuum_analyze_threshold = 1000000, vacuum_truncate = false,
        toast.autovacuum_vacuum_scale_factor = 0, toast.autovacuum_vacuum_threshold = 20000,
        toast.vacuum_truncate = false);

DO $$
BEGIN
  ALTER TABLE streamhub.changes ALTER COLUMN old_row SET COMPRESSION lz4, ALTER COLUMN new_row SET COMPRESSION lz4;
EXCEPTION WHEN feature_not_supported OR syntax_error THEN
  NULL;  -- a server built without lz4 keeps pglz
END $$;

-- What a change is about: the capture's id; the relation (the leaf partition where there are partitions); its file node,
-- which changes with every rewrite, so a column's new type is told from its old one; how many columns it ever had, with
-- which the names in order tell which column each is (streamhub/core/shapes.py), empty where that cannot be told; and
-- flags: l for a row that is too large, whose texts hold only the columns that tell whose it is, b for a backfill's.
CREATE FUNCTION streamhub.origin(capture text, relation oid, natts smallint, flags text) RETURNS text
LANGUAGE sql STABLE
AS $$
  SELECT pg_catalog.format('%s:%s:%s:%s:%s', capture, relation, pg_catalog.pg_relation_filenode(relation), natts, flags)
$$;

-- All that waits for the relay, wherever it was written.
CREATE VIEW streamhub.waiting AS
SELECT seq, xid, created_at, origin, old_ctid, new_ctid, chained, who, old_row, new_row FROM streamhub.changes
UNION ALL
SELECT seq, xid, created_at,
       format('%s:%s:%s:%s:%s%s', capture, relation, filenode, natts, CASE WHEN backfill THEN 'b' END,
              CASE WHEN too_large THEN 'l' END),
       old_ctid, new_ctid, chained, who, old_row, new_row
FROM streamhub.outbox;

-- Who owned the outbox owns what takes its place, whoever runs this: the functions that write there run as that role.
DO $$
DECLARE
  former text := (SELECT relowner::regrole FROM pg_class WHERE oid = 'streamhub.outbox'::regclass);
BEGIN
  EXECUTE format('ALTER TABLE streamhub.changes OWNER TO %s', former);
  EXECUTE format('ALTER VIEW streamhub.waiting OWNER TO %s', former);
  EXECUTE format('ALTER FUNCTION streamhub.origin OWNER TO %s', former);
END $$;
REVOKE ALL ON streamhub.changes, streamhub.waiting FROM PUBLIC;

-- What no function does in one statement: a session with settings of its own, a large row, a table that was altered
-- since its function was made, and a row that did not change.
CREATE OR REPLACE FUNCTION streamhub.capture_slowly(
  capture integer, relation oid, natts smallint, old_row record, new_row record, old_ctid tid, new_ctid tid,
  chained boolean
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  old_text text;
  new_text text;
  stripped boolean := false;
BEGIN
  IF old_row *= new_row THEN
    RETURN;
  END IF;
  IF coalesce(pg_column_size(old_row), 0) + coalesce(pg_column_size(new_row), 0) <= 65536 THEN
    old_text := CASE WHEN old_ctid IS NOT NULL THEN streamhub.row_text(old_row) END;
    new_text := CASE WHEN new_ctid IS NOT NULL THEN streamhub.row_text(new_row) END;
  ELSE
    IF old_ctid IS NOT NULL THEN
      old_text := streamhub.large_row_text(old_row);
      stripped := old_text IS NULL;
    END IF;
    IF new_ctid IS NOT NULL AND NOT stripped THEN
      new_text := streamhub.large_row_text(new_row);
      stripped := new_text IS NULL;
    END IF;
    IF stripped THEN
      old_text := NULL;
      new_text := NULL;
      IF old_ctid IS NOT NULL THEN
        EXECUTE streamhub.identity_query(relation, capture, '($1)') INTO old_text USING old_row;
      END IF;
      IF new_ctid IS NOT NULL THEN
        EXECUTE streamhub.identity_query(relation, capture, '($1)') INTO new_text USING new_row;
      END IF;
    END IF;
  END IF;
  INSERT INTO streamhub.changes (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
  VALUES (streamhub.origin(capture::text, relation, natts, CASE WHEN stripped THEN 'l' END), old_ctid, new_ctid, chained,
          current_setting('streamhub.who', true), old_text, new_text);
END $$;

-- Makes the function of a capture, or makes it anew for the table as it is now. It needs no lock on the table: while
-- the table has another file node, or a column that it had not, the function goes the slow way.
CREATE OR REPLACE FUNCTION streamhub.make_capture_function(capture integer, relation oid) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $make$
DECLARE
  name text := format('streamhub.capture_%s()', capture);
  table_ pg_class;
BEGIN
  SELECT * INTO table_ FROM pg_class WHERE oid = relation AND relkind = 'r';
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  EXECUTE format($format$
    CREATE OR REPLACE FUNCTION %1$s RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER
    SET search_path = pg_catalog, pg_temp
    AS $capture$
    BEGIN
      IF pg_relation_filenode(TG_RELID) = %3$s AND pg_describe_object(1259, TG_RELID, %4$s + 1) IS NULL
        AND %5$s
        AND (OLD *= NEW) IS NOT TRUE
        AND greatest(pg_column_size(OLD), pg_column_size(NEW)) <= 32768
      THEN
        INSERT INTO streamhub.changes (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
        VALUES (%6$L, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0, current_setting('streamhub.who', true),
                row_to_json(OLD)::text, row_to_json(NEW)::text);
      ELSE
        PERFORM streamhub.capture_slowly(
          %2$s, TG_RELID,
          CASE WHEN pg_describe_object(1259, TG_RELID, %4$s + 1) IS NULL THEN %4$s::smallint
               ELSE streamhub.columns_ever(TG_RELID) END,
          OLD, NEW, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0);
      END IF;
      RETURN NULL;
    END $capture$
    $format$,
    name, capture, pg_relation_filenode(relation), table_.relnatts, streamhub.wanted_settings(relation),
    streamhub.origin(capture::text, relation, table_.relnatts, NULL));
  EXECUTE format('ALTER FUNCTION %s OWNER TO %s', name,
                 (SELECT relowner::regrole FROM pg_class WHERE oid = 'streamhub.changes'::regclass));
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  RETURN name;
END $make$;

-- For partitioned tables, whose leaves share one trigger, and for those captured before tables had functions.
CREATE OR REPLACE FUNCTION streamhub.capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF current_setting('TimeZone') IN ('UTC', 'Etc/UTC') AND current_setting('bytea_output') = 'hex'
    AND current_setting('extra_float_digits') = '1' AND current_setting('IntervalStyle') = 'postgres'
    AND current_setting('DateStyle') LIKE 'ISO,%' AND current_setting('lc_monetary') = TG_ARGV[1]
    AND current_setting('quote_all_identifiers') = 'off'
  THEN
    INSERT INTO streamhub.changes (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
    SELECT streamhub.origin(
             TG_ARGV[0], TG_RELID,
             CASE WHEN TG_NARGS = 4 AND pg_describe_object(1259, TG_RELID, TG_ARGV[3]::integer) IS NULL
                  THEN TG_ARGV[2]::smallint ELSE streamhub.columns_ever(TG_RELID) END,
             NULL),
           OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0, current_setting('streamhub.who', true),
           row_to_json(OLD)::text, row_to_json(NEW)::text
    WHERE (OLD *= NEW) IS NOT TRUE
      AND greatest(pg_column_size(OLD), pg_column_size(NEW)) <= 32768;
    IF FOUND THEN
      RETURN NULL;
    END IF;
  END IF;
  PERFORM streamhub.capture_slowly(
    TG_ARGV[0]::integer, TG_RELID,
    CASE WHEN TG_NARGS = 4 AND pg_describe_object(1259, TG_RELID, TG_ARGV[3]::integer) IS NULL
         THEN TG_ARGV[2]::smallint ELSE streamhub.columns_ever(TG_RELID) END,
    OLD, NEW, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0);
  RETURN NULL;
END $$;

-- TRUNCATE as the destroy of every row. On leaves alone: it does not fire for the partitions of a truncated root.
CREATE OR REPLACE FUNCTION streamhub.capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  PERFORM pg_current_xact_id();
  -- A partition that was detached is no longer part of what is captured.
  IF NOT EXISTS (SELECT FROM streamhub.captures c
                 WHERE c.id = TG_ARGV[0]::integer
                   AND c.relation_oid = coalesce(pg_partition_root(TG_RELID), TG_RELID)) THEN
    RETURN NULL;
  END IF;
  EXECUTE format($sql$
    INSERT INTO streamhub.changes (origin, old_ctid, who, old_row)
    SELECT %1$L || CASE WHEN converted IS NULL THEN 'l' ELSE '' END, ctid, current_setting('streamhub.who', true),
           coalesce(converted, stripped)
    FROM (SELECT t.ctid, r.converted,
                 CASE WHEN r.converted IS NULL THEN (%2$s) END AS stripped
          FROM ONLY %3$s AS t,
          LATERAL (SELECT CASE WHEN pg_column_size(t.*) > 65536 THEN streamhub.large_row_text(t.*)
                               ELSE streamhub.row_text(t.*) END AS converted OFFSET 0) AS r) AS rows
    $sql$,
    streamhub.origin(TG_ARGV[0], TG_RELID, streamhub.columns_ever(TG_RELID), NULL),
    streamhub.identity_query(TG_RELID, TG_ARGV[0]::integer, 't'), TG_RELID::regclass);
  RETURN NULL;
END $$;

SELECT streamhub.make_capture_function(id, relation_oid) FROM streamhub.captures
WHERE removed_at IS NULL AND to_regprocedure(format('streamhub.capture_%s()', id)) IS NOT NULL;

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub FROM PUBLIC;
