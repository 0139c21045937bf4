-- A row as text, within a bound, whatever the writer's session has set.

-- A row of a relation as its triggers see it, virtual columns null, in a query that calls the relation `alias`. To read one
-- is to compute it, and that may be an error. Null where there are none, and the whole row can be read.
CREATE OR REPLACE FUNCTION streamhub.stored_row(relation oid, alias text) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT format('ROW(%s)::%s', string_agg(CASE WHEN attgenerated::text = 'v' THEN 'NULL'
                                               ELSE format('%I.%I', alias, attname) END, ', ' ORDER BY attnum),
                relation::regclass)
  FROM pg_attribute WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
  HAVING bool_or(attgenerated::text = 'v')
$$;

-- A row as it is written to the outbox, whatever the writer's session settings are.
CREATE OR REPLACE FUNCTION streamhub.row_text(r record, as_json boolean) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC' SET bytea_output = 'hex' SET extra_float_digits = 1
SET intervalstyle = 'postgres' SET datestyle = 'ISO, MDY' SET quote_all_identifiers = off
AS $$
BEGIN
  IF as_json THEN
    RETURN row_to_json(r)::text;
  END IF;
  RETURN format('%s', r);
END $$;

-- The same where the session has another money format than `money`. A host may lack that locale: then it is C's.
CREATE OR REPLACE FUNCTION streamhub.row_text_with_money(r record, as_json boolean, money text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
SET lc_monetary = 'C'
AS $$
BEGIN
  BEGIN
    PERFORM set_config('lc_monetary', money, true);
  EXCEPTION WHEN OTHERS THEN
    NULL;
  END;
  RETURN streamhub.row_text(r, as_json);
END $$;

-- The same for any row: null where it cannot be written, or would be longer than 64 MiB.
CREATE OR REPLACE FUNCTION streamhub.bounded_row_text(
  r record, relation oid, as_json boolean, expands boolean, money text
) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  expanding name[];
  digits bigint;
  written text;
BEGIN
  IF r IS NOT DISTINCT FROM NULL THEN
    RETURN NULL;
  END IF;
  IF NOT expands AND pg_column_size(r) <= 32768 AND current_setting('lc_monetary') = money THEN
    RETURN streamhub.row_text(r, as_json);
  END IF;
  IF expands THEN
    expanding := streamhub.expanding_columns(relation);
    IF expanding <> '{}' THEN
      EXECUTE 'SELECT ' || (SELECT string_agg(format('streamhub.digits(($1).%I)', name), ' + ')
                            FROM unnest(expanding) AS name) INTO digits USING r;
      IF digits > 16777216 THEN
        RETURN NULL;
      END IF;
    END IF;
  END IF;
  IF current_setting('lc_monetary') = money THEN
    written := streamhub.row_text(r, as_json);
  ELSE
    written := streamhub.row_text_with_money(r, as_json, money);
  END IF;
  RETURN CASE WHEN octet_length(written) <= 67108864 THEN written END;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;

-- The columns of a leaf that tell whose a row is: key, organization, environment, anonymization. `fields` names them in
-- a query in which $1 is the row.
CREATE OR REPLACE FUNCTION streamhub.identity(
  leaf oid, capture_id integer, OUT numbers smallint[], OUT fields text
)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT array_agg(a.attnum ORDER BY a.attnum), string_agg(format('($1).%I', a.attname), ', ' ORDER BY a.attnum)
  FROM streamhub.captures c
  JOIN pg_attribute root ON root.attrelid = c.relation_oid AND NOT root.attisdropped
   AND root.attnum = ANY (c.key_columns || c.organization_column || c.test_column || c.anonymization_column)
  JOIN pg_attribute a ON a.attrelid = leaf AND a.attname = root.attname AND NOT a.attisdropped
  WHERE c.id = capture_id
$$;

-- Of a row that is too large, what tells whose it is; null where that cannot be written either.
CREATE OR REPLACE FUNCTION streamhub.identity_text(r record, fields text) RETURNS text
LANGUAGE plpgsql
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  found text;
BEGIN
  EXECUTE format('SELECT streamhub.row_text(ROW(%s), false) WHERE $1 IS DISTINCT FROM NULL', fields) INTO found USING r;
  RETURN found;
EXCEPTION WHEN OTHERS THEN
  RETURN NULL;
END $$;

-- The settings on which the text of a relation's rows depends, each as the condition under which it is as it should be.
-- All of them for a type that is not known here. A timestamp may become a timestamptz without a rewrite.
CREATE OR REPLACE FUNCTION streamhub.wanted_settings(relation oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH needs AS (
    SELECT CASE
      WHEN t.typtype = 'e' THEN ''
      WHEN t.typnamespace <> 'pg_catalog'::regnamespace THEN 'any'
      WHEN t.typname IN ('bool', 'int2', 'int4', 'int8', 'numeric', 'text', 'varchar', 'bpchar', 'name', 'uuid', 'json',
                         'jsonb', 'date', 'time', 'inet', 'cidr', 'macaddr', 'bit', 'varbit') THEN ''
      WHEN t.typname IN ('timestamp', 'timestamptz') THEN 'TimeZone'
      WHEN t.typname = 'bytea' THEN 'bytea_output'
      WHEN t.typname IN ('float4', 'float8') THEN 'extra_float_digits'
      WHEN t.typname = 'interval' THEN 'IntervalStyle'
      ELSE 'any' END AS setting
    FROM streamhub.column_types(relation) AS c JOIN pg_type t ON t.oid = c.type
  )
  SELECT coalesce(string_agg(condition, ' AND '), 'true') FROM (VALUES
    ('TimeZone', $c$current_setting('TimeZone') IN ('UTC', 'Etc/UTC')$c$),
    ('bytea_output', $c$current_setting('bytea_output') = 'hex'$c$),
    ('extra_float_digits', $c$current_setting('extra_float_digits') = '1'$c$),
    ('IntervalStyle', $c$current_setting('IntervalStyle') = 'postgres'$c$),
    ('any', format($c$current_setting('DateStyle') LIKE 'ISO,%%' AND current_setting('lc_monetary') = %L
                      AND current_setting('quote_all_identifiers') = 'off'$c$, streamhub.money_format()))
  ) AS wanted (setting, condition)
  WHERE wanted.setting IN (SELECT setting FROM needs) OR 'any' IN (SELECT setting FROM needs)
$$;
