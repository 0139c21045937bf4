-- The functions of a source. All files of this folder are applied again, in order, whenever one of them changes.
--
-- No code that somebody else defined runs in them. row_to_json would call casts to json; so it is used only for a table
-- whose columns have no type of a user's own. All other rows are written as a record's text, which calls
-- output functions alone, and those of types that are no superuser's are PostgreSQL's own. No value is cast to a type or
-- from one, none is compared, and nothing is found by a search_path but pg_catalog. Nothing in here parses the JSON of a
-- row: `->`, to_jsonb and their kin raise an error on \u0000 anywhere in it. No string in a function has a backslash, but
-- in E'': what it means elsewhere is a setting of the writer's session.
--
-- Here: what a table's columns are, and in which form its rows can be written.

-- The first oid of an object that did not come with PostgreSQL (FirstNormalObjectId in access/transam.h).
CREATE OR REPLACE FUNCTION streamhub.first_oid_of_users() RETURNS bigint
LANGUAGE sql IMMUTABLE AS $$ SELECT 16384::bigint $$;

-- The money format of the database, whatever the session has set.
CREATE OR REPLACE FUNCTION streamhub.money_format() RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$ SELECT reset_val FROM pg_settings WHERE name = 'lc_monetary' $$;

-- A table and all partitions below it. pg_partition_tree would wait for a lock on any of them.
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
