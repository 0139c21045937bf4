-- The functions of a source, applied again as a whole whenever this file changes.
--
-- No code that somebody else defined runs in them. row_to_json would call casts to json; so it is used only for a table
-- whose columns have no type of a user's own. All other rows are written as a record's text, which calls
-- output functions alone, and those of types that are no superuser's are PostgreSQL's own. No value is cast to a type or
-- from one, none is compared, and nothing is found by a search_path but pg_catalog. Nothing in here parses the JSON of a
-- row: `->`, to_jsonb and their kin raise an error on \u0000 anywhere in it. No string in a function has a backslash: what
-- that means is a setting of the writer's session.

-- The first oid of an object that did not come with PostgreSQL (FirstNormalObjectId in access/transam.h).
CREATE OR REPLACE FUNCTION streamhub.first_oid_of_users() RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT 16384::bigint $$;

-- The money format of the database, whatever the session has set.
CREATE OR REPLACE FUNCTION streamhub.money_format() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT reset_val FROM pg_settings WHERE name = 'lc_monetary' $$;

-- A table and all partitions below it. pg_partition_tree would wait for whoever has locked one.
CREATE OR REPLACE FUNCTION streamhub.partitions(root oid) RETURNS TABLE (oid oid, is_leaf boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE tree AS (
    SELECT c.oid, c.relkind FROM pg_class c WHERE c.oid = root
    UNION ALL
    SELECT c.oid, c.relkind FROM tree JOIN pg_inherits i ON i.inhparent = tree.oid JOIN pg_class c ON c.oid = i.inhrelid
    WHERE tree.relkind = 'p'
  )
  SELECT tree.oid, tree.relkind <> 'p' FROM tree
$$;

-- What a domain is over, all the way down; any other type is itself.
CREATE OR REPLACE FUNCTION streamhub.base_type(type oid) RETURNS oid
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  base oid;
BEGIN
  LOOP
    SELECT typbasetype INTO base FROM pg_type WHERE oid = type AND typtype = 'd';
    IF base IS NULL THEN
      RETURN type;
    END IF;
    type := base;
  END LOOP;
END $$;

-- What the columns of a relation are made of: domains and arrays are looked through. `in_array`: it is in an array.
CREATE OR REPLACE FUNCTION streamhub.column_types(relation oid)
RETURNS TABLE (number smallint, name name, type oid, in_array boolean)
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  WITH RECURSIVE types AS (
    SELECT attnum, attname, atttypid AS type, false AS in_array FROM pg_attribute
    WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped
    UNION
    SELECT types.attnum, types.attname, CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.typelem END,
           types.in_array OR t.typtype <> 'd'
    FROM types JOIN pg_type t ON t.oid = types.type
    WHERE t.typtype = 'd' OR t.typsubscript = 'array_subscript_handler'::regproc
  )
  SELECT types.attnum, types.attname, types.type, types.in_array FROM types JOIN pg_type t ON t.oid = types.type
  WHERE t.typtype <> 'd' AND t.typsubscript <> 'array_subscript_handler'::regproc
$$;

-- How the rows of a relation are written:
--   json       no column is made of a type of a user's own, so row_to_json calls no cast
--   record     as a record's text; the columns and their types are those of a shape that is remembered
--   described  as a record's text with a description of its columns: a composite type may be altered on its own
-- The form holds for as long as the relation has the same file node and no more columns: another type that needs no
-- rewrite is one that PostgreSQL itself, or a superuser, made binary coercible, or a domain over the same.
CREATE OR REPLACE FUNCTION streamhub.form(relation oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT CASE WHEN bool_or(t.typtype = 'c') THEN 'described' WHEN count(*) > 0 THEN 'record' ELSE 'json' END
  FROM streamhub.column_types(relation) AS c JOIN pg_type t ON t.oid = c.type
  WHERE c.type::bigint >= streamhub.first_oid_of_users()
$$;

-- The columns whose text may be thousands of times their stored size: many numbers of up to 147,456 digits in one value.
CREATE OR REPLACE FUNCTION streamhub.expanding_columns(relation oid) RETURNS name[]
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce(array_agg(DISTINCT c.name), '{}') FROM streamhub.column_types(relation) AS c
  JOIN pg_type t ON t.oid = c.type
  WHERE c.type IN ('jsonb'::regtype, 'nummultirange'::regtype)
     OR (t.typtype = 'c' AND c.type::bigint >= streamhub.first_oid_of_users())
     OR (c.type = 'numeric'::regtype AND (SELECT count(*) > 8 FROM streamhub.column_types(relation) AS all_
                                          WHERE all_.type = 'numeric'::regtype))
     OR (t.typtype = 'm' AND c.type::bigint >= streamhub.first_oid_of_users())
     OR (c.in_array AND c.type IN ('numeric'::regtype, 'numrange'::regtype))
$$;

-- About how many digits a number is written with where they are unusually many; else 0. At most twice as many as they are.
-- No text is made to find out. The scale of NaN and of the infinities is null.
CREATE OR REPLACE FUNCTION streamhub.unusual_digits(number numeric) RETURNS bigint
LANGUAGE sql IMMUTABLE  -- without a search_path of its own, so that it is inlined: its callers have one
AS $$
  SELECT CASE WHEN scale(number) <= 100 THEN 0 ELSE coalesce(scale(number), 0) END
       + CASE WHEN scale(number) IS NULL OR abs(number) < 1e100 THEN 0
              WHEN abs(number) < 1e200 THEN 200 WHEN abs(number) < 1e400 THEN 400 WHEN abs(number) < 1e800 THEN 800
              WHEN abs(number) < 1e2000 THEN 2000 WHEN abs(number) < 1e4000 THEN 4000
              WHEN abs(number) < 1e8000 THEN 8000 WHEN abs(number) < 1e16000 THEN 16000
              WHEN abs(number) < 1e32000 THEN 32000 WHEN abs(number) < 1e65000 THEN 65000 ELSE 131072 END::bigint
$$;

-- The same for all numbers of a value. One of up to `small` bytes counts as 0: it has fewer than a hundred numbers.
CREATE OR REPLACE FUNCTION streamhub.digits(value anyelement, small integer DEFAULT 512) RETURNS bigint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  base oid;
  type pg_type;
  fields text;
  filter jsonpath;
  total bigint := 0;
BEGIN
  IF value IS NOT DISTINCT FROM NULL THEN
    RETURN 0;
  END IF;
  base := streamhub.base_type(pg_typeof(value));
  IF base = 'numeric'::regtype THEN
    RETURN streamhub.unusual_digits(value::numeric);
  ELSIF pg_column_size(value) <= small AND pg_column_compression(value) IS NULL THEN
    RETURN 0;
  END IF;
  SELECT * INTO type FROM pg_type WHERE oid = base;
  IF base = 'jsonb'::regtype THEN
    -- Numbers near 0 are looked at in a large value only: they take 16,383 digits at the most, and 0 is a usual number.
    filter := CASE WHEN small > 0 AND pg_column_size(value) <= 40000 AND pg_column_compression(value) IS NULL
                   THEN 'strict $.** ? (@ >= 1e100 || @ <= -1e100)'
                   ELSE 'strict $.** ? (@ >= 1e100 || @ <= -1e100 || (@ < 1e-100 && @ > -1e-100))' END;
    IF jsonb_path_exists(value::jsonb, filter) THEN
      -- By way of an array: jsonb_path_query takes the square of the number of items.
      SELECT sum(streamhub.unusual_digits(number::numeric)) INTO total
      FROM jsonb_array_elements(jsonb_path_query_array(value::jsonb, filter)) AS number;
    END IF;
  ELSIF base = 'numeric[]'::regtype THEN
    SELECT sum(streamhub.unusual_digits(number)) INTO total FROM unnest(value::numeric[]) AS number;
  ELSIF base = 'numrange[]'::regtype THEN
    SELECT sum(streamhub.unusual_digits(lower(r)) + streamhub.unusual_digits(upper(r))) INTO total
    FROM unnest(value::numrange[]) AS r;
  ELSIF base = 'numrange'::regtype THEN
    total := streamhub.unusual_digits(lower(value::numrange)) + streamhub.unusual_digits(upper(value::numrange));
  ELSIF base = 'nummultirange'::regtype THEN
    SELECT sum(streamhub.unusual_digits(lower(r)) + streamhub.unusual_digits(upper(r))) INTO total
    FROM unnest(value::nummultirange) AS r;
  ELSIF type.typtype = 'c' THEN
    SELECT string_agg(format('streamhub.digits(($1).%I, 0)', attname), ' + ') INTO fields FROM pg_attribute
    WHERE attrelid = type.typrelid AND attnum > 0 AND NOT attisdropped;
    EXECUTE 'SELECT ' || coalesce(fields, '0') INTO total USING value;
  ELSIF type.typsubscript = 'array_subscript_handler'::regproc THEN
    SELECT sum(streamhub.digits(element, 0)) INTO total FROM unnest(value) AS element;
  ELSIF type.typtype IN ('r', 'm') AND base::bigint >= streamhub.first_oid_of_users() THEN  -- it cannot be told over what
    total := (pg_column_size(value) / 8 + 1) * 147456;
  END IF;
  RETURN coalesce(total, 0);
END $$;

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

-- How many columns a relation has ever had. The catalog is read as the transaction's snapshot shows it, which under
-- REPEATABLE READ may be from before an ALTER TABLE that the row is from after. pg_describe_object (1259 is pg_class)
-- looks past the snapshot, and knows of columns that were dropped, too.
CREATE OR REPLACE FUNCTION streamhub.columns_ever(relation oid) RETURNS smallint
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  natts smallint := coalesce((SELECT relnatts FROM pg_class WHERE oid = relation), 0);
BEGIN
  WHILE pg_describe_object(1259, relation, natts + 1) IS NOT NULL LOOP
    natts := natts + 1;
  END LOOP;
  RETURN natts;
END $$;

-- A column's name by PostgreSQL's own cache, which looks past the snapshot; null for one that was dropped.
CREATE OR REPLACE FUNCTION streamhub.column_name(relation oid, number integer) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT name FROM (SELECT (pg_identify_object_as_address(1259, relation, number)).object_names[3] AS name) AS named
  WHERE name NOT LIKE '........pg.dropped.%'
$$;

-- What a record's text does not say of itself: {"columns": [[position, name, type], ...], "types": {...}}. The type is 0
-- for a virtual column, which a trigger sees as null. Of each type of a user's own that the columns are made of, `types` has
-- what it is made of: [[name, type], ...] of a composite's fields, {"array": type} of an array's elements, or the type under a
-- domain. No field where the composite was altered since the snapshot: then no value of it can be read. Where the transaction's
-- snapshot is older than the table, the names come from PostgreSQL's own cache and the types are left out.
CREATE OR REPLACE FUNCTION streamhub.described(relation oid, numbers smallint[] DEFAULT NULL) RETURNS text
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
BEGIN
  IF EXISTS (SELECT FROM pg_class c WHERE c.oid = relation AND c.relfilenode = pg_relation_filenode(relation)
             AND pg_describe_object(1259, relation, c.relnatts + 1) IS NULL)
    AND NOT EXISTS (SELECT FROM pg_attribute a WHERE a.attrelid = relation AND a.attnum > 0 AND NOT a.attisdropped
                    AND streamhub.column_name(relation, a.attnum) IS NULL)
  THEN
    RETURN (
      WITH RECURSIVE columns AS (
        SELECT attnum, attname, CASE WHEN attgenerated::text = 'v' THEN 0 ELSE atttypid::bigint END AS type
        FROM pg_attribute
        WHERE attrelid = relation AND attnum > 0 AND NOT attisdropped AND (numbers IS NULL OR attnum = ANY (numbers))
      ), types AS (
        SELECT type FROM columns WHERE type >= streamhub.first_oid_of_users()
        UNION
        SELECT inner_type FROM types JOIN pg_type t ON t.oid = types.type,
        LATERAL (SELECT t.typbasetype::bigint WHERE t.typtype = 'd'
                 UNION ALL SELECT t.typelem::bigint WHERE t.typsubscript = 'array_subscript_handler'::regproc
                 UNION ALL SELECT f.atttypid::bigint FROM pg_attribute f
                           WHERE t.typtype = 'c' AND f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped)
          AS made (inner_type)
        WHERE inner_type >= streamhub.first_oid_of_users()
      )
      SELECT json_build_object(
        'columns', (SELECT json_agg(json_build_array(attnum, attname, type) ORDER BY attnum) FROM columns),
        'types', (SELECT coalesce(json_object_agg(t.oid, CASE
                    WHEN t.typtype = 'd' THEN to_json(t.typbasetype::bigint)
                    WHEN t.typtype <> 'c' THEN json_build_object('array', t.typelem::bigint)
                    ELSE (SELECT coalesce(json_agg(json_build_array(f.attname, f.atttypid::bigint) ORDER BY f.attnum), '[]')
                          FROM pg_attribute f JOIN pg_class c ON c.oid = f.attrelid
                          WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped
                            AND pg_describe_object(1259, c.oid, c.relnatts + 1) IS NULL)
                  END), '{}')
                  FROM types JOIN pg_type t ON t.oid = types.type
                  WHERE t.typtype IN ('c', 'd') OR t.typsubscript = 'array_subscript_handler'::regproc))
    );
  END IF;
  RETURN (
    SELECT json_build_object('columns', json_agg(json_build_array(number, name) ORDER BY number), 'types', '{}'::json)
    FROM generate_series(1, streamhub.columns_ever(relation)) AS number,
    LATERAL (SELECT streamhub.column_name(relation, number) AS name) AS named
    WHERE name IS NOT NULL AND (numbers IS NULL OR number = ANY (numbers))
  );
END $$;

-- What a change is about: the capture's id; the relation (the leaf partition where there are partitions); its file node,
-- which changes with every rewrite, so a column's new type is told from its old one; how many columns it ever had, with
-- which the names in order tell which column each is (streamhub/core/shapes.py); flags; the attachment of a partition
-- (see streamhub.shapes); and, for the flag d, streamhub.described. The flags:
--   b  a backfill's    d  the rows are records' texts    l  too large: only the columns that tell whose it is
--   n  changed nothing, and is a link in a chain of versions    t  a TRUNCATE whose rows could not be read
CREATE OR REPLACE FUNCTION streamhub.origin(
  capture text, relation oid, natts integer, flags text, attachment oid, described text
) RETURNS text
LANGUAGE sql STABLE
AS $$
  SELECT pg_catalog.format('%s:%s:%s:%s:%s:%s:%s', capture, relation, pg_catalog.pg_relation_filenode(relation), natts,
                           flags, attachment, described)
$$;

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

-- The form of a relation, where its present state is one of which the types are remembered; else described.
CREATE OR REPLACE FUNCTION streamhub.known_form(capture_id integer, leaf oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce((SELECT max(form) FROM streamhub.shapes WHERE capture = capture_id AND relation = leaf
                   AND filenode = pg_relation_filenode(leaf) AND natts = streamhub.columns_ever(leaf)), 'described')
$$;

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
-- cheap. Null for a partitioned table, whose leaves share streamhub.capture.
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
    RETURN NULL;
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
  -- The body is one literal, so that no name in it can end it.
  EXECUTE format('CREATE OR REPLACE FUNCTION %s RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER '
                 'SET search_path = pg_catalog, pg_temp AS %L', function, format($format$
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
  PERFORM streamhub.hand_over(function::regprocedure);
  RETURN function;
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

-- The row trigger of partitions, which PostgreSQL makes for each from that of the root. TG_ARGV: the capture's id, and the
-- database's lc_monetary when the trigger was made.
CREATE OR REPLACE FUNCTION streamhub.capture() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  known record;
BEGIN
  -- The form of a state is a fact whenever it was found. A trigger that the snapshot does not show was made since.
  SELECT t.oid AS attachment, s.natts, s.form, s.expands INTO known
  FROM (VALUES (1)) AS one (n)
  LEFT JOIN pg_trigger t ON t.tgrelid = TG_RELID AND t.tgname = TG_NAME
  LEFT JOIN LATERAL (
    SELECT natts, form, expands FROM streamhub.shapes
    WHERE capture = TG_ARGV[0]::integer AND relation = TG_RELID AND attachment = t.oid
      AND filenode = pg_relation_filenode(TG_RELID) AND pg_describe_object(1259, TG_RELID, natts + 1) IS NULL
    ORDER BY form DESC, expands LIMIT 1
  ) AS s ON true;
  IF known.form <> 'described' AND NOT known.expands AND current_setting('TimeZone') IN ('UTC', 'Etc/UTC')
    AND current_setting('bytea_output') = 'hex' AND current_setting('extra_float_digits') = '1'
    AND current_setting('IntervalStyle') = 'postgres' AND current_setting('DateStyle') LIKE 'ISO,%'
    AND current_setting('lc_monetary') = TG_ARGV[1] AND current_setting('quote_all_identifiers') = 'off'
    AND (OLD *= NEW) IS NOT TRUE AND greatest(pg_column_size(OLD), pg_column_size(NEW)) <= 32768
  THEN
    INSERT INTO streamhub.outbox (origin, old_ctid, new_ctid, chained, who, old_row, new_row)
    VALUES (streamhub.origin(TG_ARGV[0], TG_RELID, known.natts, CASE known.form WHEN 'record' THEN 'd' END,
                             known.attachment, NULL),
            OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0, current_setting('streamhub.who', true),
            CASE WHEN known.form = 'json' THEN row_to_json(OLD)::text WHEN OLD.ctid IS NOT NULL THEN format('%s', OLD) END,
            CASE WHEN known.form = 'json' THEN row_to_json(NEW)::text WHEN NEW.ctid IS NOT NULL THEN format('%s', NEW) END);
  ELSE
    PERFORM streamhub.capture_slowly(
      TG_ARGV[0]::integer, TG_RELID, known.attachment, known.natts, known.form, known.expands, TG_ARGV[1],
      OLD, NEW, OLD.ctid, NEW.ctid, age(OLD.xmin) <= 0);
  END IF;
  RETURN NULL;
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

-- Whether an expression has a part that the planner computes before any row is read, with a function, an operator or a
-- domain that is a user's own. `tree` is a pg_node_tree: nested {NODE …}, the innermost first.
CREATE OR REPLACE FUNCTION streamhub.runs_when_planned(tree text) RETURNS boolean
LANGUAGE plpgsql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
  depends CONSTANT text := chr(1);
  node text;
BEGIN
  LOOP
    node := substring(tree FROM '[{]([^{}]*)[}]');
    IF node IS NULL THEN
      RETURN false;
    END IF;
    IF node ~ '^(VAR|PARAM) ' OR strpos(node, depends) > 0 THEN
      tree := regexp_replace(tree, '[{][^{}]*[}]', depends);
    ELSE
      IF EXISTS (SELECT FROM regexp_matches(node, ':(?:funcid|opfuncid|opno|resulttype) ([0-9]+)', 'g') AS m
                 LEFT JOIN pg_proc p ON p.oid = m[1]::oid LEFT JOIN pg_roles r ON r.oid = p.proowner
                 WHERE m[1]::bigint >= streamhub.first_oid_of_users() AND r.rolsuper IS NOT TRUE) THEN
        RETURN true;
      END IF;
      tree := regexp_replace(tree, '[{][^{}]*[}]', '');
    END IF;
  END LOOP;
END $$;

-- Whether reading a table may run code of somebody who is no superuser: the planner reads the expressions of its indexes
-- and statistics. Row-level security is off wherever this is asked, so that it is an error instead of a call.
CREATE OR REPLACE FUNCTION streamhub.reading_runs_code(relation oid) RETURNS boolean
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT EXISTS (SELECT FROM pg_index WHERE indrelid = relation
                 AND (streamhub.runs_when_planned(indexprs::text) OR streamhub.runs_when_planned(indpred::text)))
      OR EXISTS (SELECT FROM pg_statistic_ext WHERE stxrelid = relation AND streamhub.runs_when_planned(stxexprs::text))
$$;

-- TRUNCATE as the destroy of every row. On leaves alone: it does not fire for the partitions of a truncated root.
-- TG_ARGV: the capture's id, the name of the row trigger, and the database's lc_monetary when the trigger was made.
CREATE OR REPLACE FUNCTION streamhub.capture_truncate() RETURNS trigger
LANGUAGE plpgsql SECURITY DEFINER
SET search_path = pg_catalog, pg_temp SET row_security = off SET constraint_exclusion = off
AS $$
DECLARE
  leaf oid := TG_RELID;
  natts smallint := streamhub.columns_ever(TG_RELID);
  attachment oid;
  form text := streamhub.known_form(TG_ARGV[0]::integer, TG_RELID);
  identity record;
BEGIN
  PERFORM pg_current_xact_id();
  -- A partition that was detached is no longer part of what is captured.
  IF EXISTS (SELECT FROM streamhub.captures c WHERE c.id = TG_ARGV[0]::integer AND c.relation_oid <> leaf
             AND c.relation_oid NOT IN (SELECT relid FROM pg_partition_ancestors(leaf)))
  THEN
    RETURN NULL;
  END IF;
  SELECT t.oid INTO attachment FROM pg_trigger t
  WHERE t.tgrelid = leaf AND t.tgname = TG_ARGV[1] AND t.tgparentid <> 0;
  BEGIN
    IF NOT EXISTS (SELECT FROM streamhub.captures WHERE id = TG_ARGV[0]::integer) THEN
      RAISE EXCEPTION 'the snapshot of the transaction is older than the capture';
    ELSIF streamhub.reading_runs_code(leaf) THEN
      RAISE EXCEPTION 'reading % would run code of its owner', leaf::regclass;
    END IF;
    SELECT * INTO identity FROM streamhub.identity(leaf, TG_ARGV[0]::integer);
    EXECUTE format($sql$
      INSERT INTO streamhub.outbox (origin, old_ctid, who, old_row)
      SELECT CASE WHEN written IS NULL THEN %1$L ELSE %2$L END, ctid, current_setting('streamhub.who', true),
             coalesce(written, identity)
      FROM (SELECT t.ctid, r.written,
                   CASE WHEN r.written IS NULL THEN streamhub.identity_text(%8$s, %3$L) END AS identity
            FROM ONLY %7$s AS t,
            LATERAL (SELECT streamhub.bounded_row_text(%8$s, %4$s, %5$L, true, %6$L) AS written OFFSET 0) AS r) AS texts
      $sql$,
      streamhub.origin(TG_ARGV[0], leaf, natts, 'dl', attachment, streamhub.described(leaf, identity.numbers)),
      streamhub.origin(TG_ARGV[0], leaf, natts, CASE WHEN form = 'json' THEN '' ELSE 'd' END, attachment,
                       CASE WHEN form = 'described' THEN streamhub.described(leaf) END),
      identity.fields, leaf, form = 'json', TG_ARGV[2], leaf::regclass,
      coalesce(streamhub.stored_row(leaf, 't'), 't.*'));
  EXCEPTION WHEN OTHERS THEN
    INSERT INTO streamhub.outbox (origin, who, old_row)
    VALUES (streamhub.origin(TG_ARGV[0], leaf, natts, 't', attachment, NULL),
            current_setting('streamhub.who', true), SQLERRM);
  END;
  RETURN NULL;
END $$;

-- Who runs what: see docs/security.md. What triggers run belongs to streamhub_capture, and nothing else does: what the
-- hub calls itself must not be that role's to replace.
DO $$
DECLARE
  function regprocedure;
  runs_as_owner boolean;
BEGIN
  FOR function, runs_as_owner IN SELECT oid, prosecdef FROM pg_proc WHERE pronamespace = 'streamhub'::regnamespace LOOP
    IF runs_as_owner THEN
      PERFORM streamhub.hand_over(function);
    ELSE
      EXECUTE format('GRANT EXECUTE ON FUNCTION %s TO streamhub_capture', function);
    END IF;
  END LOOP;
END $$;
REVOKE ALL ON FUNCTION streamhub.make_capture_function, streamhub.hand_over FROM streamhub_capture;
REVOKE ALL ON ALL FUNCTIONS IN SCHEMA streamhub FROM PUBLIC;
