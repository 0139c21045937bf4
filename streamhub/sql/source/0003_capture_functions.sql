-- A trigger function for each captured table that is not partitioned, with what it needs to know as constants. PL/pgSQL
-- prepares every expression anew in each transaction, so leaving out what does not concern a table is what makes a
-- capture cheap: of the 144,000 instructions that capture() adds to a single-row UPDATE, these add 103,000.

-- What no function does in one statement: a session with settings of its own, a large row, a table that was altered
-- since its function was made, and a row that did not change.
CREATE FUNCTION streamhub.capture_slowly(
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
  INSERT INTO streamhub.outbox
    (capture, relation, filenode, natts, old_ctid, new_ctid, chained, too_large, who, old_row, new_row)
  VALUES
    (capture, relation, pg_relation_filenode(relation), natts, old_ctid, new_ctid, chained, stripped,
     nullif(current_setting('streamhub.who', true), ''), old_text, new_text);
END $$;

-- The settings on which the text of a relation's rows depends, each as the condition under which it is as we want it.
-- All of them for a type that is not known here. A timestamp may become a timestamptz without a rewrite.
CREATE FUNCTION streamhub.wanted_settings(relation oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE types AS (
    SELECT atttypid AS type FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END FROM types
    JOIN pg_type t ON t.oid = types.type WHERE t.typtype = 'd' OR t.typsubscript = 'array_subscript_handler'::regproc
  ), needs AS (
    SELECT CASE
      WHEN t.typtype IN ('d', 'e') OR t.typsubscript = 'array_subscript_handler'::regproc THEN ''
      WHEN t.typnamespace <> 'pg_catalog'::regnamespace THEN 'any'
      WHEN t.typname IN ('bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'name', 'uuid', 'json',
                         'jsonb', 'date', 'time', 'inet', 'cidr', 'macaddr', 'bit', 'varbit') THEN ''
      WHEN t.typname IN ('timestamp', 'timestamptz') THEN 'TimeZone'
      WHEN t.typname = 'bytea' THEN 'bytea_output'
      WHEN t.typname IN ('float4', 'float8') THEN 'extra_float_digits'
      WHEN t.typname = 'interval' THEN 'IntervalStyle'
      ELSE 'any' END AS setting
    FROM types JOIN pg_type t ON t.oid = types.type
  )
  SELECT coalesce(string_agg(condition, ' AND '), 'true') FROM (VALUES
    ('TimeZone', $c$current_setting('TimeZone') IN ('UTC', 'Etc/UTC')$c$),
    ('bytea_output', $c$current_setting('bytea_output') = 'hex'$c$),
    ('extra_float_digits', $c$current_setting('extra_float_digits') = '1'$c$),
    ('IntervalStyle', $c$current_setting('IntervalStyle') = 'postgres'$c$),
    ('any', format($c$current_setting('DateStyle') LIKE 'ISO,%%' AND current_setting('lc_monetary') = %L
                      AND current_setting('quote_all_identifiers') = 'off'$c$, current_setting('lc_monetary')))
  ) AS wanted (setting, condition)
  WHERE wanted.setting IN (SELECT setting FROM needs) OR 'any' IN (SELECT setting FROM needs)
$$;

-- Makes the function of a capture, or makes it anew for the table as it is now. It needs no lock on the table: while
-- the table has another file node, or a column that it had not, the function goes the slow way.
CREATE FUNCTION streamhub.make_capture_function(capture integer, relation oid) RETURNS text
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
      INSERT INTO streamhub.outbox
        (capture, relation, filenode, natts, old_ctid, new_ctid, chained, who, old_row, new_row)
      SELECT '%2$s', TG_RELID, %3$s, %4$s::smallint, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0,
             nullif(current_setting('streamhub.who', true), ''), row_to_json(OLD)::text, row_to_json(NEW)::text
      WHERE pg_relation_filenode(TG_RELID) = %3$s AND pg_describe_object(1259, TG_RELID, %4$s + 1) IS NULL
        AND %5$s
        AND (OLD *= NEW) IS NOT TRUE
        AND coalesce(pg_column_size(OLD), 0) + coalesce(pg_column_size(NEW), 0) <= 65536;
      IF NOT FOUND THEN
        PERFORM streamhub.capture_slowly(
          %2$s, TG_RELID,
          CASE WHEN pg_describe_object(1259, TG_RELID, %4$s + 1) IS NULL THEN %4$s::smallint
               ELSE streamhub.columns_ever(TG_RELID) END,
          OLD, NEW, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0);
      END IF;
      RETURN NULL;
    END $capture$
    $format$,
    name, capture, pg_relation_filenode(relation), table_.relnatts, streamhub.wanted_settings(relation));
  EXECUTE format('ALTER FUNCTION %s OWNER TO %s', name,
                 (SELECT relowner::regrole FROM pg_class WHERE oid = 'streamhub.outbox'::regclass));
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', name);
  RETURN name;
END $make$;

-- For partitioned tables, whose leaves share one trigger, and for those captured before this migration.
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
    INSERT INTO streamhub.outbox
      (capture, relation, filenode, natts, old_ctid, new_ctid, chained, who, old_row, new_row)
    SELECT TG_ARGV[0], TG_RELID, pg_relation_filenode(TG_RELID),
           CASE WHEN TG_NARGS = 4 AND pg_describe_object(1259, TG_RELID, TG_ARGV[3]::integer) IS NULL
                THEN TG_ARGV[2]::smallint ELSE streamhub.columns_ever(TG_RELID) END,
           OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0, nullif(current_setting('streamhub.who', true), ''),
           row_to_json(OLD)::text, row_to_json(NEW)::text
    WHERE (OLD *= NEW) IS NOT TRUE
      AND coalesce(pg_column_size(OLD), 0) + coalesce(pg_column_size(NEW), 0) <= 65536;
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

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub FROM PUBLIC;
