"""The triggers of a captured table: installed, removed, and looked over.

``"!streamhub"`` is the row trigger; its name sorts before all usual ones, so that what an application's trigger changes
comes after what made it run. It fires ALWAYS, for a session that replicates too. PostgreSQL copies it to partitions,
new ones included; the TRUNCATE trigger it does not, so each leaf has its own. A table without partitions has a trigger
function of its own, ``streamhub.capture_<id of the capture>``, made for what the table is; the others share one.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub import migrate

ROW_TRIGGER: Final = "!streamhub"
TRUNCATE_TRIGGER: Final = "!streamhub_truncate"

_ARGUMENTS: Final = """
SELECT concat_ws(', ', quote_literal($2::integer), quote_literal(current_setting('lc_monetary')),
                 CASE WHEN relkind = 'r' THEN format('%L, %L', relnatts, relnatts + 1) END)
FROM pg_class WHERE oid = $1
"""
# Of the capture that a table's trigger belongs to; none where it is the one that several tables share.
_FUNCTION: Final = """
SELECT format('streamhub.%I()', proname) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = $1 AND tgname = '!streamhub' AND pronamespace = 'streamhub'::regnamespace AND proname <> 'capture'
"""
_RENEW: Final = """
SELECT streamhub.make_capture_function(id, relation_oid) FROM streamhub.captures
WHERE removed_at IS NULL AND relation_oid = ANY($1::oid[])
  AND to_regprocedure(format('streamhub.capture_%s()', id)) IS NOT NULL
"""
_LEAVES: Final = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.oid = $1 AND c.relkind = 'r'
UNION ALL
SELECT relid::regclass::text FROM pg_partition_tree($1) WHERE isleaf AND relid <> $1
"""
# Of the relation {0}, for the role r that owns the function f: whether policies hide rows from it.
HIDDEN_ROWS: Final = """
({0}.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls
  OR (pg_has_role(f.proowner, {0}.relowner, 'USAGE') AND NOT {0}.relforcerowsecurity)))
"""
_TRIGGERS: Final = f"""
SELECT c.id AS capture, c.relation_oid::regclass::text AS captured, leaf.relid::regclass::text AS name,
       leaf.relid = c.relation_oid AS is_root, coalesce(leaf.isleaf, true) AS is_leaf,
       row_trigger.tgenabled::text AS row_enabled,
       c.id::text = split_part(encode(row_trigger.tgargs, 'escape'), '\\000', 1) AS row_current,
       truncate_trigger.tgenabled::text AS truncate_enabled,
       (SELECT min(t.tgname) FROM pg_trigger t WHERE t.tgrelid = leaf.relid AND NOT t.tgisinternal
        AND t.tgtype & 2 = 0 AND t.tgtype & 1 = 1 AND t.tgname < '!streamhub') AS before_ours,
       quote_ident(r.rolname) AS owner, quote_ident(n.nspname) AS schema,
       {HIDDEN_ROWS.format("leaf_class")} AS hidden_rows,
       has_table_privilege(f.proowner, leaf.relid, 'SELECT')
         AND has_schema_privilege(f.proowner, n.oid, 'USAGE') AS may_select
FROM pg_proc f JOIN pg_roles r ON r.oid = f.proowner, streamhub.captures c
JOIN pg_class k ON k.oid = c.relation_oid
CROSS JOIN LATERAL (SELECT relid, isleaf FROM pg_partition_tree(c.relation_oid)
                    UNION SELECT c.relation_oid, NULL WHERE k.relkind = 'r') AS leaf
JOIN pg_class leaf_class ON leaf_class.oid = leaf.relid JOIN pg_namespace n ON n.oid = leaf_class.relnamespace
LEFT JOIN pg_trigger row_trigger ON row_trigger.tgrelid = leaf.relid AND row_trigger.tgname = '!streamhub'
LEFT JOIN pg_trigger truncate_trigger ON truncate_trigger.tgrelid = leaf.relid
      AND truncate_trigger.tgname = '!streamhub_truncate'
WHERE c.removed_at IS NULL AND f.oid = 'streamhub.capture_truncate()'::regprocedure
ORDER BY 2, 3
"""


class TriggerFault(NamedTuple):
    """Something about a captured table that keeps changes from being captured as they should be."""

    table: str
    fault: str
    remedy: str


async def install(connection: "asyncpg.Connection[Any]", relation: int, capture: int) -> bool:
    """Put the triggers of a capture on a table and its leaves; false where they may not be made to fire ALWAYS.

    That takes the table's owner; without it a session with session_replication_role = replica is not captured.
    """
    table = await connection.fetchval("SELECT $1::oid::regclass::text", relation)
    arguments = await connection.fetchval(_ARGUMENTS, relation, capture)
    function = await connection.fetchval("SELECT streamhub.make_capture_function($1, $2)", capture, relation)
    name = "streamhub.capture" if function is None else function.removesuffix("()")
    former = await connection.fetchval(_FUNCTION, relation)
    await connection.execute(
        f'CREATE OR REPLACE TRIGGER "{ROW_TRIGGER}" AFTER INSERT OR UPDATE OR DELETE ON {table} '
        f"FOR EACH ROW EXECUTE FUNCTION {name}({arguments})"
    )
    if former is not None and former != function:
        await connection.execute(f"DROP FUNCTION IF EXISTS {former}")
    leaves = await _leaves(connection, relation)
    for leaf in leaves:
        await connection.execute(
            f'CREATE OR REPLACE TRIGGER "{TRUNCATE_TRIGGER}" BEFORE TRUNCATE ON {leaf} '
            f"FOR EACH STATEMENT EXECUTE FUNCTION streamhub.capture_truncate('{capture}')"
        )
    if not await connection.fetchval(
        "SELECT pg_has_role(current_user, relowner, 'MEMBER') FROM pg_class WHERE oid = $1", relation
    ):
        return False
    for name in dict.fromkeys((table, *leaves)):
        await connection.execute(f'ALTER TABLE {name} ENABLE ALWAYS TRIGGER "{ROW_TRIGGER}"')
    for leaf in leaves:
        await connection.execute(f'ALTER TABLE {leaf} ENABLE ALWAYS TRIGGER "{TRUNCATE_TRIGGER}"')
    return True


async def uninstall(connection: "asyncpg.Connection[Any]", relation: int) -> None:
    """Take the triggers off a table and its leaves; a table that is gone has none."""
    table = await connection.fetchval("SELECT oid::regclass::text FROM pg_class WHERE oid = $1", relation)
    if table is None:
        return
    for leaf in await _leaves(connection, relation):
        await connection.execute(f'DROP TRIGGER IF EXISTS "{TRUNCATE_TRIGGER}" ON {leaf}')
    function = await connection.fetchval(_FUNCTION, relation)
    await connection.execute(f'DROP TRIGGER IF EXISTS "{ROW_TRIGGER}" ON {table}')
    if function is not None:
        await connection.execute(f"DROP FUNCTION IF EXISTS {function}")


async def renew_functions(connection: "asyncpg.Connection[Any]", relations: Sequence[int]) -> None:
    """Make the functions of these tables anew, for what the tables are now: until then they work, but slowly.

    Raises UserError while a migration runs.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        await migrate.keep_out(connection)
        await connection.execute(_RENEW, relations)


async def faults(connection: "asyncpg.Connection[Any]") -> list[TriggerFault]:
    """What is wrong with the triggers of the tables that are captured now, and with what their owner may read."""
    found = []
    for row in await connection.fetch(_TRIGGERS):
        table, again = row["name"], f"streamhub capture add {row['captured']} … again, with the same options"
        if row["row_enabled"] is None:
            found.append(TriggerFault(table, "has no capture trigger: its changes are not captured", again))
        elif row["row_enabled"] in ("D", "R"):
            enable = f'ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{ROW_TRIGGER}"'
            found.append(TriggerFault(table, "has its capture trigger disabled: its changes are not captured", enable))
        elif not row["row_current"]:
            found.append(TriggerFault(table, "has the trigger of an earlier capture", again))
        if row["is_leaf"] and row["truncate_enabled"] is None:
            found.append(TriggerFault(table, "has no TRUNCATE trigger: a TRUNCATE of it gives no events", again))
        elif row["is_leaf"] and row["truncate_enabled"] in ("D", "R"):
            enable = f'ALTER TABLE {table} ENABLE ALWAYS TRIGGER "{TRUNCATE_TRIGGER}"'
            found.append(TriggerFault(table, "has its TRUNCATE trigger disabled", enable))
        owner = row["owner"]
        if row["is_leaf"] and not row["may_select"]:
            grants = f"GRANT USAGE ON SCHEMA {row['schema']} TO {owner}; GRANT SELECT ON {table} TO {owner}"
            found.append(TriggerFault(table, f"may not be read by {owner}: a TRUNCATE of it fails", grants))
        if row["is_leaf"] and row["hidden_rows"]:
            found.append(
                TriggerFault(
                    table,
                    f"has row-level security that {owner} does not bypass: a TRUNCATE gives no event for the rows that "
                    "it hides",
                    f"ALTER ROLE {owner} BYPASSRLS",
                )
            )
        if row["before_ours"] is not None:
            found.append(
                TriggerFault(
                    table,
                    f"has a trigger {row['before_ours']!r} that runs before the capture trigger",
                    "rename it to a name that sorts after '!streamhub'",
                )
            )
    return found


async def _leaves(connection: "asyncpg.Connection[Any]", relation: int) -> Sequence[str]:
    return [row["name"] for row in await connection.fetch(_LEAVES, relation)]
