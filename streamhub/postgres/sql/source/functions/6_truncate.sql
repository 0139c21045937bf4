-- The capture of TRUNCATE, which reads the table: only where that runs no code of its owner.

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
