"""Installs and removes the triggers of a captured table.

``"!streamhub"`` is the row trigger. Its name sorts before usual names, so that a change comes before those that the
application's triggers make because of it. It fires ALWAYS, in a replicating session too. PostgreSQL copies it to
partitions, also to new ones, but not the TRUNCATE trigger, so each leaf has its own. A capture has a function of its
own, ``streamhub.capture_<id>``; for a table without partitions it is generated for the columns. The names of a
partitioned table's triggers end with its oid, so that a captured table can be attached to it.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.capture.catalog import ROW_TRIGGER
from streamhub.postgres import migrate
from streamhub.postgres.migrate import CAPTURE_ROLE

TRUNCATE_TRIGGER: Final = "!streamhub_truncate"

# The trigger function of a table's capture; no row where it was removed and its trigger stayed.
_FUNCTION: Final = """
SELECT format('streamhub.%I()', proname) FROM pg_trigger JOIN pg_proc ON pg_proc.oid = tgfoid
WHERE tgrelid = $1 AND tgname = $2 AND pronamespace = 'streamhub'::regnamespace AND proname LIKE 'capture\\_%'
  AND proname <> 'capture_nothing'
"""
_RENEW: Final = """
SELECT streamhub.make_capture_function(id, relation_oid) FROM streamhub.captures
WHERE removed_at IS NULL AND relation_oid = ANY($1::oid[]) AND relation = relation_oid
  AND to_regprocedure(format('streamhub.capture_%s()', id)) IS NOT NULL
"""
LEAVES: Final = """
SELECT oid::regclass::text AS name FROM streamhub.partitions($1) WHERE is_leaf ORDER BY oid
"""
_OWNS: Final = "SELECT pg_has_role(current_user, relowner, 'USAGE') FROM pg_class WHERE oid = $1"
_READABLE: Final = """
SELECT quote_ident(n.nspname) AS schema, has_schema_privilege($2, n.oid, 'USAGE') AS may_use,
       pg_has_role(current_user, n.nspowner, 'USAGE') AS owns_schema, has_table_privilege($2, c.oid, 'SELECT')
         AS may_select,
       pg_has_role(current_user, c.relowner, 'USAGE') AS owns
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = $1::text::regclass
"""


class Names(NamedTuple):
    """The names of a captured table's triggers."""

    row: str
    truncate: str

    @classmethod
    def of(cls, relation: int, is_partitioned: bool) -> "Names":
        suffix = f"_{relation}" if is_partitioned else ""
        return cls(ROW_TRIGGER + suffix, TRUNCATE_TRIGGER + suffix)


async def lock(connection: "asyncpg.Connection[Any]", relation: int) -> None:
    """Block writes and ALTER by others until the transaction ends. LOCK TABLE needs more rights than CREATE TRIGGER,
    which takes the same lock; the trigger made for that is replaced in the same transaction."""
    table, is_partitioned, may_lock = await connection.fetchrow(
        "SELECT oid::regclass::text, relkind = 'p', has_table_privilege(oid, 'UPDATE, DELETE, TRUNCATE') "
        "FROM pg_class WHERE oid = $1",
        relation,
    ) or (None, False, False)
    if table is None:
        return
    if may_lock:
        await connection.execute(f"LOCK TABLE {table} IN SHARE ROW EXCLUSIVE MODE")
    else:
        await _make_row_trigger(
            connection, table, Names.of(relation, is_partitioned).row, "streamhub.capture_nothing()"
        )


async def install(connection: "asyncpg.Connection[Any]", relation: int, capture: int) -> bool:
    """Install the triggers of a capture on a table and its leaves. False where they do not fire ALWAYS.

    Only the table's owner may set that; without it a session with session_replication_role = replica is not captured.
    Raises asyncpg.InsufficientPrivilegeError where the role of the trigger functions may not read a leaf and this role
    cannot grant it.
    """
    found = await connection.fetchrow(
        "SELECT oid::regclass::text, relkind = 'p', quote_ident(pg_get_userbyid(relowner)) "
        "FROM pg_class WHERE oid = $1",
        relation,
    )
    assert found is not None, "the table is locked"
    table, is_partitioned, owner = found
    money = await connection.fetchval("SELECT quote_literal(streamhub.money_format())")
    function = await connection.fetchval("SELECT streamhub.make_capture_function($1, $2)", capture, relation)
    names = Names.of(relation, is_partitioned)
    former = await connection.fetchval(_FUNCTION, relation, names.row)
    await _make_row_trigger(connection, table, names.row, function)
    if is_partitioned:
        # PostgreSQL requires it of the role that creates or attaches a partition.
        await connection.execute(f"GRANT EXECUTE ON FUNCTION {function} TO {owner}")
    if former is not None and former != function:
        await _drop(connection, former)
    leaves = await _leaves(connection, relation)
    for leaf in leaves:
        await _grant_read(connection, leaf)
        await connection.execute(
            f'CREATE OR REPLACE TRIGGER "{names.truncate}" BEFORE TRUNCATE ON {leaf} '
            f"FOR EACH STATEMENT EXECUTE FUNCTION streamhub.capture_truncate('{capture}', '{names.row}', {money})"
        )
    if not await connection.fetchval(_OWNS, relation):
        return False
    for name in dict.fromkeys((table, *leaves)):
        await connection.execute(f'ALTER TABLE {name} ENABLE ALWAYS TRIGGER "{names.row}"')
    for leaf in leaves:
        await connection.execute(f'ALTER TABLE {leaf} ENABLE ALWAYS TRIGGER "{names.truncate}"')
    return True


async def uninstall(connection: "asyncpg.Connection[Any]", relation: int) -> bool:
    """Drop the triggers of a table and its leaves. False where only the owner may drop them: then they stay, and do
    nothing."""
    found = await connection.fetchrow(
        "SELECT oid::regclass::text, relkind = 'p' FROM pg_class WHERE oid = $1", relation
    )
    if found is None:
        return True
    table, is_partitioned = found
    names = Names.of(relation, is_partitioned)
    function = await connection.fetchval(_FUNCTION, relation, names.row)
    owns = bool(await connection.fetchval(_OWNS, relation))
    leaves = await _leaves(connection, relation)
    if owns:
        await connection.execute(f'DROP TRIGGER IF EXISTS "{names.row}" ON {table}')
        for leaf in leaves:
            await connection.execute(f'DROP TRIGGER IF EXISTS "{names.truncate}" ON {leaf}')
    else:
        await _make_row_trigger(connection, table, names.row, "streamhub.capture_nothing()")
        for leaf in leaves:
            await connection.execute(
                f'CREATE OR REPLACE TRIGGER "{names.truncate}" BEFORE TRUNCATE ON {leaf} '
                "FOR EACH STATEMENT EXECUTE FUNCTION streamhub.capture_nothing()"
            )
    if function is not None:
        await _drop(connection, function)
    return owns


async def renew_functions(connection: "asyncpg.Connection[Any]", relations: Sequence[int]) -> None:
    """Generate the trigger functions of these tables again, for their present columns. The old ones work, but slowly.

    Raises UserError while a migration runs.
    """
    async with connection.transaction():
        await connection.execute("SET LOCAL lock_timeout = '1s'")
        await migrate.keep_out(connection)
        await connection.execute(_RENEW, relations)


async def _make_row_trigger(connection: "asyncpg.Connection[Any]", table: str, name: str, call: str) -> None:
    await connection.execute(
        f'CREATE OR REPLACE TRIGGER "{name}" AFTER INSERT OR UPDATE OR DELETE ON {table} '
        f"FOR EACH ROW EXECUTE FUNCTION {call}"
    )


async def _drop(connection: "asyncpg.Connection[Any]", function: str) -> None:
    """Not where another table's trigger calls it: `captures.forget_dropped` looks again later."""
    if not await connection.fetchval(
        "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure($1))", function
    ):
        await connection.execute(f"DROP FUNCTION IF EXISTS {function}")


async def _grant_read(connection: "asyncpg.Connection[Any]", leaf: str) -> None:
    """Let the role of the trigger functions read the leaf: a TRUNCATE is captured by reading it."""
    found = await connection.fetchrow(_READABLE, leaf, CAPTURE_ROLE)
    assert found is not None
    if not found["may_use"] and found["owns_schema"]:
        await connection.execute(f"GRANT USAGE ON SCHEMA {found['schema']} TO {CAPTURE_ROLE}")
    elif not found["may_use"]:
        raise asyncpg.InsufficientPrivilegeError(
            f"{CAPTURE_ROLE} may not use its schema: GRANT USAGE ON SCHEMA {found['schema']} TO {CAPTURE_ROLE}"
        )
    if not found["may_select"] and found["owns"]:
        await connection.execute(f"GRANT SELECT ON {leaf} TO {CAPTURE_ROLE}")
    elif not found["may_select"]:
        raise asyncpg.InsufficientPrivilegeError(
            f"{CAPTURE_ROLE} may not read it: GRANT SELECT ON {leaf} TO {CAPTURE_ROLE}"
        )


async def _leaves(connection: "asyncpg.Connection[Any]", relation: int) -> Sequence[str]:
    return [row["name"] for row in await connection.fetch(LEAVES, relation)]
