"""Brings the schema of a hub or of a source up to date: the files of sql/hub and sql/source, by the order of names.

Each file runs once; those of one run share a transaction with the notes that they ran. Two processes may migrate at
once.
"""

import hashlib
from collections.abc import Iterator
from importlib import resources
from typing import Any, Final, TypeAlias

import asyncpg

from streamhub.errors import UserError

Connection: TypeAlias = "asyncpg.Connection[Any]"

SCHEMAS: Final = {"hub": "streamhub_hub", "source": "streamhub"}
_LOCK: Final = 7_370_101  # an advisory lock of the database: an arbitrary number, ours


async def migrate_hub(connection: Connection) -> list[str]:
    """Apply what is missing of the hub's schema; the names of the files that ran."""
    return await _migrate(connection, "hub")


async def migrate_source(connection: Connection) -> list[str]:
    """Apply what is missing of a source's schema; the names of the files that ran."""
    return await _migrate(connection, "source")


async def pending(connection: Connection, kind: str) -> list[str]:
    """The migrations that this version has and the database has not; `kind` is ``hub`` or ``source``."""
    applied = await _applied(connection, SCHEMAS[kind])
    return [name for name, _ in _files(kind) if name not in applied]


async def keep_out(connection: Connection) -> None:
    """Until this transaction ends no migration runs: for whoever makes or replaces functions of ours.

    Raises UserError where one goes on for longer than the transaction's lock_timeout.
    """
    try:
        await connection.execute("SELECT pg_advisory_xact_lock_shared($1)", _LOCK)
    except asyncpg.LockNotAvailableError:
        raise UserError("a migration is running: nothing was changed, try again when it is over") from None


async def _migrate(connection: Connection, kind: str) -> list[str]:
    """Raises UserError where the database is newer than this version, or a file that ran was edited since."""
    schema = SCHEMAS[kind]
    done: list[str] = []
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        applied = await _applied(connection, schema)
        files = dict(_files(kind))
        unknown = sorted(set(applied) - set(files))
        if unknown:
            raise UserError(
                f"the {kind} schema has migration {unknown[0]}, which this version of streamhub does not know: "
                "run the version that made it, or a newer one"
            )
        for name, sql in files.items():
            digest = hashlib.sha256(sql.encode()).hexdigest()
            if name in applied:
                if applied[name] != digest:
                    raise UserError(f"migration {name} of the {kind} schema was changed after it ran here")
                continue
            try:
                await connection.execute(sql)
            except asyncpg.InternalServerError as error:  # an older version's process, which keeps nobody out
                raise UserError(
                    f"migration {name} of the {kind} schema met another change of it: {error}, try again"
                ) from None
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {schema}.migrations (name text PRIMARY KEY, digest text NOT NULL, "
                "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
            await connection.execute(f"INSERT INTO {schema}.migrations (name, digest) VALUES ($1, $2)", name, digest)
            done.append(name)
    return done


async def _applied(connection: Connection, schema: str) -> dict[str, str]:
    if await connection.fetchval("SELECT to_regclass($1) IS NULL", f"{schema}.migrations"):
        return {}
    rows = await connection.fetch(f"SELECT name, digest FROM {schema}.migrations")
    return {row["name"]: row["digest"] for row in rows}


def _files(kind: str) -> Iterator[tuple[str, str]]:
    folder = resources.files("streamhub") / "sql" / kind
    for file in sorted(folder.iterdir(), key=lambda each: each.name):
        if file.name.endswith(".sql"):
            yield file.name, file.read_text(encoding="utf-8")
