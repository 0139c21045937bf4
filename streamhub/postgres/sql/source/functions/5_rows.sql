-- The capture of rows: one function for each captured table, made for it; one for every case that is not quick.

-- What no trigger function does in one statement: a session with settings of its own, a large row, a table that was
-- altered since its function was made or has composite types, and a row that did not change. `natts` is null where the
-- caller does not know the state of the table; then `form` and `expands` mean nothing.
CREATE OR REPLACE FUNCTION streamhub.capture_slowly(
  capture integer, relation oid, attachment oid, natts smallint, form text, expands boolean, money text,
  old_row record, new_row record, old_ctid tid, new_ctid tid, chained boolean
) RETURNS void
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  flags text := '';
  described text;
  identity record;
  old_text text;
  new_text text;
BEGIN
  IF natts IS NULL THEN
    natts := streamhub.columns_ever(relation);
    form := 'described';
    expands := true;
  END IF;
  IF old_row *= new_row THEN
    IF NOT chained THEN
      RETURN;
    END IF;
    flags := 'n';
  ELSE
    old_text := streamhub.bounded_row_text(old_row, relation, form = 'json', expands, money);
    new_text := streamhub.bounded_row_text(new_row, relation, form = 'json', expands, money);
    IF (old_text IS NULL AND old_ctid IS NOT NULL) OR (new_text IS NULL AND new_ctid IS NOT NULL) THEN
      flags := 'dl';
      SELECT * INTO identity FROM streamhub.identity(relation, capture);
      described := streamhub.described(relation, identity.numbers);
      old_text := streamhub.identity_text(old_row, identity.fields);
      new_text := streamhub.identity_text(new_row, identity.fields);
    ELSIF form <> 'json' THEN
      flags := 'd';
      described := CASE WHEN form = 'described' THEN streamhub.described(relation) END;
    END IF;
  END IF;
  INSERT INTO streamhub.outbox (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
  VALUES (streamhub.origin(capture::text, relation, natts, flags, attachment, described), old_ctid, new_ctid, chained,
          current_setting('streamhub.who', true), old_text, new_text);
END $$;

-- Makes the trigger function of a captured table, or makes it again for the table as it is now. It needs no lock on the
-- table: while the table has another file node, or a column that it had not, the function goes the slow way. PL/pgSQL
-- prepares every expression in each transaction, so leaving out what does not concern a table is what makes a capture
-- cheap. The leaves of a partitioned table share one that holds for every leaf. Null for any other relation.
CREATE OR REPLACE FUNCTION streamhub.make_capture_function(capture integer, relation oid) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $make$
DECLARE
  function text := format('streamhub.capture_%s()', capture);
  made record;
  state text;
  quick text := 'false';
  measuring text := '';
  old_text text := 'row_to_json(OLD)::text';
  new_text text := 'row_to_json(NEW)::text';
BEGIN
  -- One statement, so that all of it is of one moment.
  SELECT relnatts AS natts, relfilenode AS filenode, streamhub.form(oid) AS form,
         streamhub.expanding_columns(oid) AS expanding, streamhub.wanted_settings(oid) AS settings INTO made
  FROM pg_class WHERE oid = relation AND relkind = 'r';
  IF NOT FOUND THEN
    IF NOT EXISTS (SELECT FROM pg_class WHERE oid = relation AND relkind = 'p') THEN
      RETURN NULL;
    END IF;
    PERFORM streamhub.make_trigger_function(function, streamhub.capture_of_partitions(capture));
    RETURN function;
  END IF;
  state := format('pg_relation_filenode(TG_RELID) = %s AND pg_describe_object(1259, TG_RELID, %s) IS NULL',
                  made.filenode, made.natts + 1);
  IF made.form = 'record' THEN
    old_text := $q$CASE WHEN OLD.ctid IS NOT NULL THEN format('%s', OLD) END$q$;
    new_text := $q$CASE WHEN NEW.ctid IS NOT NULL THEN format('%s', NEW) END$q$;
  END IF;
  IF made.form <> 'described' THEN
    quick := format('%s AND %s AND (OLD *= NEW) IS NOT TRUE AND greatest(pg_column_size(OLD), pg_column_size(NEW)) <= 32768',
                    state, made.settings);
    IF made.expanding <> '{}' THEN
      quick := quick || ' AND digits <= 16777216';
      -- A value of up to 512 bytes needs no look: see streamhub.digits.
      SELECT format(E'\n      BEGIN  -- a column may have another name by now\n        digits := greatest(%s, %s);\n'
                    '      EXCEPTION WHEN OTHERS THEN\n        digits := NULL;\n      END;',
                    string_agg(format(look, 'OLD', name), ' + '), string_agg(format(look, 'NEW', name), ' + '))
      INTO measuring
      FROM unnest(made.expanding) AS name JOIN pg_attribute a ON a.attrelid = relation AND a.attname = name,
      LATERAL (SELECT CASE
        WHEN a.atttypid = 'numeric'::regtype THEN
          'CASE WHEN %1$s.%2$I IS NULL THEN 0 WHEN pg_typeof(%1$s.%2$I) = ''numeric''::regtype '
          'THEN streamhub.unusual_digits(%1$s.%2$I) END'
        ELSE
          'CASE WHEN pg_column_size(%1$s.%2$I) <= 512 AND pg_column_compression(%1$s.%2$I) IS NULL THEN 0 '
          'WHEN pg_typeof(%1$s.%2$I) = ''jsonb''::regtype AND pg_column_size(%1$s.%2$I) <= 40000 '
          'AND pg_column_compression(%1$s.%2$I) IS NULL '
          'AND NOT jsonb_path_exists(%1$s.%2$I, ''strict $.** ? (@ >= 1e100 || @ <= -1e100)'') THEN 0 '
          'ELSE streamhub.digits(%1$s.%2$I) END'
        END) AS looks (look);
    END IF;
  END IF;
  PERFORM streamhub.make_trigger_function(function, format($format$
DECLARE
  digits bigint;
BEGIN%1$s
  IF %2$s
  THEN
    INSERT INTO streamhub.outbox (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
    VALUES (%3$L, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0, current_setting('streamhub.who', true), %4$s, %5$s);
  ELSE
    PERFORM streamhub.capture_slowly(
      %6$s, TG_RELID, NULL, CASE WHEN %7$s THEN %8$s::smallint END, %9$L, %10$L, %11$L,
      OLD, NEW, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0);
  END IF;
  RETURN NULL;
END $format$,
    measuring, quick,
    streamhub.origin(capture::text, relation, made.natts, CASE made.form WHEN 'record' THEN 'd' END, NULL, NULL),
    old_text, new_text, capture, state, made.natts, made.form, made.expanding <> '{}', streamhub.money_format()));
  RETURN function;
END $make$;

CREATE OR REPLACE FUNCTION streamhub.make_trigger_function(function text, body text) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  -- The body is one literal, so that no name in it can end it.
  EXECUTE format('CREATE OR REPLACE FUNCTION %s RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
                 'SET search_path = pg_catalog, pg_temp AS %L', function, body);
  PERFORM streamhub.hand_over(function::regprocedure);
END $$;

-- The body of the row trigger of a partitioned table's leaves, which PostgreSQL makes for each from that of the root: in the name
-- of the role that makes the partition, which has to have EXECUTE. So each capture has one of its own: a role that may use it
-- could put it on another table, and is the captured table's owner anyway.
CREATE OR REPLACE FUNCTION streamhub.capture_of_partitions(capture integer) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $make$
BEGIN
  RETURN format($format$
DECLARE
  known record;
BEGIN
  -- The form of a state is a fact whenever it was found. A trigger that the snapshot does not show was made since.
  SELECT t.oid AS attachment, s.natts, s.form, s.expands INTO known
  FROM (VALUES (1)) AS one (n)
  LEFT JOIN pg_trigger t ON t.tgrelid = TG_RELID AND t.tgname = TG_NAME
  LEFT JOIN LATERAL (
    SELECT natts, form, expands FROM streamhub.shapes
    WHERE capture = %1$s AND relation = TG_RELID AND attachment = t.oid
      AND filenode = pg_relation_filenode(TG_RELID) AND pg_describe_object(1259, TG_RELID, natts + 1) IS NULL
    ORDER BY form DESC, expands LIMIT 1
  ) AS s ON true;
  IF known.form <> 'described' AND NOT known.expands AND current_setting('TimeZone') IN ('UTC', 'Etc/UTC')
    AND current_setting('bytea_output') = 'hex' AND current_setting('extra_float_digits') = '1'
    AND current_setting('IntervalStyle') = 'postgres' AND current_setting('DateStyle') LIKE 'ISO,%%'
    AND current_setting('lc_monetary') = %2$L AND current_setting('quote_all_identifiers') = 'off'
    AND (OLD *= NEW) IS NOT TRUE AND greatest(pg_column_size(OLD), pg_column_size(NEW)) <= 32768
  THEN
    INSERT INTO streamhub.outbox (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
    VALUES (streamhub.origin('%1$s', TG_RELID, known.natts, CASE known.form WHEN 'record' THEN 'd' END,
                             known.attachment, NULL),
            OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0, current_setting('streamhub.who', true),
            CASE WHEN known.form = 'json' THEN row_to_json(OLD)::text
                 WHEN OLD.ctid IS NOT NULL THEN format('%%s', OLD) END,
            CASE WHEN known.form = 'json' THEN row_to_json(NEW)::text
                 WHEN NEW.ctid IS NOT NULL THEN format('%%s', NEW) END);
  ELSE
    PERFORM streamhub.capture_slowly(
      %1$s, TG_RELID, known.attachment, known.natts, known.form, known.expands, %2$L,
      OLD, NEW, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0);
  END IF;
  RETURN NULL;
END $format$, capture, streamhub.money_format());
END $make$;

-- Gives a function to the role that may do nothing but write to the outbox. PostgreSQL wants a new owner to have CREATE
-- on the schema; it has it for the moment.
CREATE OR REPLACE FUNCTION streamhub.hand_over(function regprocedure) RETURNS void
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF (SELECT proowner FROM pg_proc WHERE oid = function) <> 'streamhub_capture'::regrole THEN
    -- Two at once would update one row of pg_namespace. An advisory lock would be any role's to hold.
    LOCK TABLE streamhub.migrations IN SHARE UPDATE EXCLUSIVE MODE;
    GRANT CREATE ON SCHEMA streamhub TO streamhub_capture;
    EXECUTE format('ALTER FUNCTION %s OWNER TO streamhub_capture', function);
    REVOKE CREATE ON SCHEMA streamhub FROM streamhub_capture;
  END IF;
  EXECUTE format('REVOKE ALL ON FUNCTION %s FROM PUBLIC', function);
END $$;

-- What stands in place of a trigger function while a table is being captured, and after a capture was removed by a role
-- that may not drop the trigger.
CREATE OR REPLACE FUNCTION streamhub.capture_nothing() RETURNS trigger
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  RETURN NULL;
END $$;
