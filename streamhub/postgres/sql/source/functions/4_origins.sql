-- What stands beside a row's text, so that the relay knows which columns it was written with.

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

-- The form of a relation, where its present state is one of which the types are remembered; else described.
CREATE OR REPLACE FUNCTION streamhub.known_form(capture_id integer, leaf oid) RETURNS text
LANGUAGE sql STABLE
SET search_path = pg_catalog, pg_temp
AS $$
  SELECT coalesce((SELECT max(form) FROM streamhub.shapes WHERE capture = capture_id AND relation = leaf
                   AND filenode = pg_relation_filenode(leaf) AND natts = streamhub.columns_ever(leaf)), 'described')
$$;
