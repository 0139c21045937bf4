"""Adds, lists and removes captures. Each checks everything first, and changes all or nothing.

spec.py has what a capture is asked to do, tables.py what a table needs for that.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.capture import catalog, tables, triggers
from streamhub.capture.catalog import SHOWN
from streamhub.capture.spec import CaptureSpec, check_names
from streamhub.errors import UserError
from streamhub.postgres import migrate

_LOCK_TIMEOUT: Final = "5s"
_OPTIONS: Final = (
    "resource_type", "key_columns", "key_is_primary", "organization_column", "organization_id", "test_column", "test",
    "excluded_columns", "redacted_columns", "anonymization_column", "type_names", "column_names",
)  # fmt: skip
_SELECTED: Final = ", ".join(f"{name}::text" if name in ("type_names", "column_names") else name for name in _OPTIONS)
# A capture of a table that was restored or re-created may name columns that do not exist.
_ACTIVE: Final = f"""
SELECT c.id, {_SELECTED} FROM streamhub.captures c JOIN pg_class k ON k.oid = c.relation_oid
WHERE c.relation_oid = $1 AND c.relation = c.relation_oid AND k.relnatts >= c.natts AND removed_at IS NULL
"""
_INSERT: Final = f"""
INSERT INTO streamhub.captures (relation, relation_oid, name, natts, {", ".join(_OPTIONS)})
VALUES ($1::oid::regclass, $1, $2, $3, {", ".join(f"${n}" for n in range(4, 4 + len(_OPTIONS)))}) RETURNING id
"""
_REMOVE: Final = """
UPDATE streamhub.captures SET removed_at = clock_timestamp() WHERE removed_at IS NULL AND relation = $1::oid::regclass
"""
# The capture of a dropped table whose name another table has now.
_REMOVE_GONE: Final = """
UPDATE streamhub.captures SET removed_at = clock_timestamp()
WHERE removed_at IS NULL AND name = $1 AND NOT EXISTS (SELECT FROM pg_class WHERE oid = relation_oid)
"""
_NAME: Final = "UPDATE streamhub.captures SET name = $2 WHERE id = $1 AND name <> $2"
_CAPTURED: Final = f"""
SELECT s.relation::oid, {SHOWN.format("c", "n")} AS name
FROM streamhub.captures s JOIN pg_class c ON c.oid = s.relation JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE removed_at IS NULL AND relation = coalesce(to_regclass($1),
                                                 CASE WHEN $1 !~ '[.]' THEN to_regclass('public.' || $1) END)
"""
# Captures that ended long enough ago that the outbox has no more of their changes.
_DROPPED: Final = """
UPDATE streamhub.captures c SET removed_at = clock_timestamp()
WHERE removed_at IS NULL AND NOT EXISTS (SELECT FROM pg_class WHERE oid = c.relation_oid)
  AND to_regclass(c.name) IS NULL
"""
_OVER: Final = """
SELECT c.id FROM streamhub.captures c
WHERE c.removed_at < clock_timestamp() - interval '1 hour'
  AND NOT EXISTS (SELECT FROM streamhub.outbox WHERE starts_with(origin, c.id || ':'))
LIMIT 100
"""
_LIST: Final = f"""
SELECT s.id, {SHOWN.format("c", "n")} AS table, s.relation_oid, s.created_at, {_SELECTED}
FROM streamhub.captures s JOIN pg_class c ON c.oid = s.relation_oid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE removed_at IS NULL ORDER BY 2
"""


class AddResult(NamedTuple):
    """`state` is ``added``, ``replaced`` or ``unchanged``; `warnings` are sentences."""

    state: str
    table: str
    warnings: Sequence[str]


class RemoveResult(NamedTuple):
    """`warnings` are sentences."""

    table: str
    warnings: Sequence[str]


class ListedCapture(NamedTuple):
    """A capture, with the present names of its columns."""

    table: str
    resource_type: str
    key: Sequence[str]
    organization: str
    environment: str
    excluded: Sequence[str]
    redacted: Sequence[str]
    type_names: Mapping[str, str]
    anonymization_column: str | None


async def add(connection: "asyncpg.Connection[Any]", spec: CaptureSpec) -> AddResult:
    """Capture a table from now on, or replace its capture. Raises UserError where that cannot be done."""
    check_names(spec)
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await migrate.keep_out(connection)  # before the table's lock, which must not be held during a migration
        table = await tables.find(connection, spec.table)
        tables.check_table(table)
        try:
            # From here on no session writes or alters the table, so names keep their meaning.
            await triggers.lock(connection, table["oid"])
            table = await tables.find_again(connection, spec.table, table)
            warnings = tables.check_table(table)
            options = await tables.options_of(connection, table, spec)
            active = await connection.fetchrow(_ACTIVE, table["oid"])
            if active is not None and all(active[name] == value for name, value in options.items()):
                state, capture = "unchanged", active["id"]
                await connection.execute(_NAME, capture, table["full_name"])
            else:
                state = "added" if active is None else "replaced"
                await connection.execute(_REMOVE, table["oid"])
                await connection.execute(_REMOVE_GONE, table["full_name"])
                capture = await connection.fetchval(
                    _INSERT, table["oid"], table["full_name"], table["natts"], *options.values()
                )
            always = await triggers.install(connection, table["oid"], capture)
            await connection.execute("UPDATE streamhub.captures SET always = $2 WHERE id = $1", capture, always)
            await catalog.store_shapes(connection, await catalog.read_shapes(connection, captures=[capture]))
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"{table['name']} was locked by others for {_LOCK_TIMEOUT}: nothing was changed, run the command again"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise UserError(f"{table['name']} cannot be captured by this role: {error.args[0]}") from None
    if not always:
        warnings.append(
            f"this role does not own {table['name']}, so a session with session_replication_role = replica is not "
            "captured: run the command as the table's owner to capture it"
        )
    return AddResult(state, table["name"], warnings)


async def remove(connection: "asyncpg.Connection[Any]", table: str) -> RemoveResult:
    """Stop capturing a table. Changes already written are still published. Raises UserError."""
    async with connection.transaction(isolation="read_committed"):
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await migrate.keep_out(connection)
        try:
            row = await connection.fetchrow(_CAPTURED, table)
        except tables.NOT_A_NAME:
            row = None
        if row is None:
            raise UserError(f"{table!r} is not captured: streamhub capture list shows what is")
        try:
            dropped = await triggers.uninstall(connection, row["relation"])
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"{row['name']} was locked by others for {_LOCK_TIMEOUT}: nothing was changed, run the command again"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise UserError(f"{row['name']} belongs to another role: {error.args[0]}") from None
        await connection.execute(_REMOVE, row["relation"])
    warnings = []
    if not dropped:
        warnings.append(
            f"this role does not own {row['name']}, so its triggers stay and do nothing: its owner may drop those that "
            "begin with !streamhub"
        )
    return RemoveResult(row["name"], warnings)


async def list_captures(connection: "asyncpg.Connection[Any]") -> list[ListedCapture]:
    """The current captures, by table."""
    listed = []
    for row in await connection.fetch(_LIST):
        names = {each["number"]: each["name"] for each in await connection.fetch(tables.COLUMNS, row["relation_oid"])}

        def named(numbers: Iterable[int | None], names: Mapping[int, str] = names) -> list[str]:
            return [names.get(number, f"(dropped column {number})") for number in numbers if number is not None]

        organization = row["organization_id"] or f"column {named([row['organization_column']])[0]}"
        environment = "test" if row["test"] else "live"
        if row["test_column"] is not None:
            environment = f"column {named([row['test_column']])[0]}"
        listed.append(
            ListedCapture(
                row["table"],
                row["resource_type"],
                named(row["key_columns"]),
                organization,
                environment,
                named(row["excluded_columns"]),
                named(row["redacted_columns"]),
                json.loads(row["type_names"]),
                next(iter(named([row["anonymization_column"]])), None),
            )
        )
    return listed


async def forget_dropped(connection: "asyncpg.Connection[Any]") -> None:
    """Delete what is left of captures that ended: shapes, positions of backfills, and trigger functions.

    It skips what is locked. A capture whose table was dropped has ended; one whose table was replaced is a fault.
    """
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SET LOCAL lock_timeout = '100ms'")
        try:
            await migrate.keep_out(connection)
        except UserError:
            return
        await connection.execute(_DROPPED)
        for (capture,) in await connection.fetch(_OVER):
            function = f"streamhub.capture_{capture}()"
            # A trigger may still call it, in a table that was restored, or whose owner has to drop the trigger.
            if not await connection.fetchval(
                "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgfoid = to_regprocedure($1))", function
            ):
                await connection.execute(f"DROP FUNCTION IF EXISTS {function}")
                await connection.execute("DELETE FROM streamhub.captures WHERE id = $1", capture)
