"""Brings the schema of a hub or of a source up to date: the files of sql/hub and sql/source, by the order of names.

A file with a number runs once. The folder `functions` holds functions that are replaced as a whole: all its files run
again, as one, whenever one of them has changed. All that runs at once shares a transaction with the notes that it ran.
Two processes may migrate at once.

The functions that triggers of a source run belong to a role that can log in nowhere and may do nothing but write to the
outbox. It is made here where this role may make roles.
"""

import hashlib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any, Final, TypeAlias

import asyncpg

from streamhub.errors import UserError

Connection: TypeAlias = "asyncpg.Connection[Any]"

SCHEMAS: Final = {"hub": "streamhub_hub", "source": "streamhub"}
CAPTURE_ROLE: Final = "streamhub_capture"
PUBLISHER_ROLE: Final = "streamhub_publisher"
_MAKE_PUBLISHER: Final = f"CREATE ROLE {PUBLISHER_ROLE} NOLOGIN NOINHERIT"
FUNCTIONS: Final = "functions"
_MOST_TRIES: Final = 3
# What a first migration meets where another process has just made the schema or its table of migrations.
_MADE_MEANWHILE: Final = (asyncpg.UniqueViolationError, asyncpg.DuplicateSchemaError, asyncpg.DuplicateTableError)

_SCHEMA: Final = """
SELECT n.nspowner::regrole::text AS owner, current_user::regrole::text AS us,
       n.nspowner = current_user::regrole OR r.rolsuper
         OR EXISTS (SELECT FROM pg_catalog.pg_roles c
                    WHERE c.rolname = $2 AND pg_has_role(n.nspowner, c.oid, 'MEMBER')) AS is_ours,
       EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.refclassid = 'pg_catalog.pg_namespace'::regclass
               AND d.refobjid = n.oid) AS has_objects
FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles r ON r.oid = n.nspowner WHERE n.nspname = $1
"""
_LOCKABLE: Final = """
SELECT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE n.nspname = $1 AND c.relname = 'migrations' AND c.relkind = 'r'
                 AND has_schema_privilege(n.oid, 'USAGE') AND has_table_privilege(c.oid, 'UPDATE'))
"""
_ROLE: Final = """
SELECT rolcanlogin OR rolsuper OR rolcreaterole OR rolcreatedb OR rolreplication
         OR EXISTS (SELECT FROM pg_catalog.pg_auth_members m WHERE m.member = r.oid) AS has_rights,
       pg_has_role(current_user, r.oid, 'USAGE') AS is_ours
FROM pg_catalog.pg_roles r WHERE rolname = $1
"""
# Functions that run as somebody else than they should: a dump was restored without its owners.
_FOREIGN_FUNCTIONS: Final = f"""
SELECT EXISTS (SELECT FROM pg_catalog.pg_proc p JOIN pg_catalog.pg_roles r ON r.oid = p.proowner
               LEFT JOIN pg_catalog.pg_class c ON c.oid = to_regclass('streamhub.outbox')
               WHERE p.pronamespace = to_regnamespace('streamhub') AND p.prosecdef
                 AND CASE p.proname WHEN 'publish' THEN r.oid <> c.relowner ELSE r.rolname <> '{CAPTURE_ROLE}' END)
"""


async def migrate_hub(connection: Connection) -> list[str]:
    """Apply what is missing of the hub's schema; the names of the files that ran."""
    return await _migrate(connection, "hub")


async def migrate_source(connection: Connection) -> list[str]:
    """Apply what is missing of a source's schema; the names of the files that ran."""
    return await _migrate(connection, "source")


async def pending(connection: Connection, kind: str) -> list[str]:
    """The files that this version has and the database has not; `kind` is ``hub`` or ``source``."""
    applied = await _applied(connection, SCHEMAS[kind])
    return [name for name, sql in _files(kind) if not await _is_done(connection, applied, name, sql)]


async def keep_out(connection: Connection) -> None:
    """Until this transaction ends no migration runs: for code that makes or replaces functions of ours.

    Raises UserError where one goes on for longer than the transaction's lock_timeout.
    """
    try:
        await _lock(connection, SCHEMAS["source"], "ROW EXCLUSIVE")
    except asyncpg.LockNotAvailableError:
        raise UserError("a migration is running: nothing was changed, try again when it is over") from None


async def _migrate(connection: Connection, kind: str) -> list[str]:
    """As `_migrate_once`. Where another process makes the same schema it is waited for, and then locked as ever."""
    for tries_left in reversed(range(_MOST_TRIES)):
        try:
            return await _migrate_once(connection, kind)
        except _MADE_MEANWHILE:
            if not tries_left:
                raise
    raise AssertionError("the last try returns or raises")


async def _migrate_once(connection: Connection, kind: str) -> list[str]:
    """Raises UserError where the schema is somebody else's, the database is newer than this version, a file that ran
    was edited since, or the role of the trigger functions is missing and may not be made."""
    schema = SCHEMAS[kind]
    done: list[str] = []
    async with connection.transaction(isolation="read_committed"):
        await connection.execute("SET LOCAL lock_timeout = '10s'")
        try:
            await _lock(connection, schema, "SHARE ROW EXCLUSIVE")
            await _schema(connection, schema)
            # First of all: another process that would make it waits for this one, as for a lock.
            await connection.execute(
                f"CREATE TABLE IF NOT EXISTS {schema}.migrations (name text PRIMARY KEY, digest text NOT NULL, "
                "applied_at timestamptz NOT NULL DEFAULT clock_timestamp())"
            )
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"another session has held the lock of migrations ({schema}.migrations) for 10 s: see pg_locks, and "
                "try again"
            ) from None
        applied = await _applied(connection, schema)
        files = dict(_files(kind))
        unknown = sorted(set(applied) - set(files))
        if unknown:
            raise UserError(
                f"the {kind} schema has migration {unknown[0]}, which this version of streamhub does not know: "
                "run the version that made it, or a newer one"
            )
        for name, sql in files.items():
            if await _is_done(connection, applied, name, sql):
                continue
            if name in applied and name != FUNCTIONS:
                raise UserError(
                    f"migration {name} of the {kind} schema was changed after it ran here: go on with the version of "
                    "streamhub that ran it, or begin with another database, or another --data-dir"
                )
            if kind == "source":
                await _capture_role(connection)
                await _publisher_role(connection)
            try:
                await connection.execute(sql)
            except asyncpg.InternalServerError as error:  # an older version's process, which locks no other out
                raise UserError(
                    f"migration {name} of the {kind} schema met another change of it: {error}, try again"
                ) from None
            await connection.execute(
                f"INSERT INTO {schema}.migrations (name, digest) VALUES ($1, $2) "
                "ON CONFLICT (name) DO UPDATE SET digest = EXCLUDED.digest, applied_at = clock_timestamp()",
                name,
                _digest(sql),
            )
            done.append(name)
    return done


async def _lock(connection: Connection, schema: str, mode: str) -> bool:
    """Lock the table of migrations, which no role but the hub's can. False where there is none, or it is not ours."""
    if not await connection.fetchval(_LOCKABLE, schema):
        return False
    await connection.execute(f"LOCK TABLE {schema}.migrations IN {mode} MODE")
    return True


async def _schema(connection: Connection, schema: str) -> None:
    """Make the schema, or take it as ours. One that another role made could hold functions that it may replace."""
    found = await connection.fetchrow(_SCHEMA, schema, CAPTURE_ROLE)
    if found is None:
        await connection.execute(f"CREATE SCHEMA {schema}")
    elif not found["is_ours"]:
        raise UserError(
            f"the schema {schema} belongs to {found['owner']}, and this is {found['us']}: nothing was done. Where "
            f"{found['owner']} made it for streamhub, run this as {found['owner']}; else rename that schema"
        )
    elif found["has_objects"] and not await _has_migrations(connection, schema):
        raise UserError(f"the schema {schema} holds objects that are not streamhub's: nothing was done, rename it")


async def _capture_role(connection: Connection) -> None:
    found = await connection.fetchrow(_ROLE, CAPTURE_ROLE)
    if found is None:
        try:
            async with connection.transaction():
                await connection.execute(f"CREATE ROLE {CAPTURE_ROLE} NOLOGIN NOINHERIT {await _bypass(connection)}")
        except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
            pass  # another database of this server migrates
        except asyncpg.InsufficientPrivilegeError:
            us = await connection.fetchval("SELECT quote_ident(current_user)")
            raise UserError(f"{_wanted_role(us)}{await _and_publisher(connection)}") from None
        found = await connection.fetchrow(_ROLE, CAPTURE_ROLE)
    assert found is not None
    if found["has_rights"]:
        raise UserError(
            f"the role {CAPTURE_ROLE} has rights that the trigger functions must not have: ALTER ROLE {CAPTURE_ROLE} "
            "NOLOGIN NOSUPERUSER NOCREATEROLE NOCREATEDB NOREPLICATION, and take it out of every other role"
        )
    if not found["is_ours"]:
        us = await connection.fetchval("SELECT quote_ident(current_user)")
        try:
            async with connection.transaction():
                await connection.execute(f"GRANT {CAPTURE_ROLE} TO {us}")
        except asyncpg.PostgresError:
            raise UserError(f"{_wanted_role(us)}{await _and_publisher(connection)}") from None


async def _publisher_role(connection: Connection) -> None:
    """The role that may publish. The hub's role may without it, as the function's owner."""
    if await connection.fetchrow(_ROLE, PUBLISHER_ROLE) is not None:
        return
    try:
        async with connection.transaction():
            await connection.execute(_MAKE_PUBLISHER)
    except (asyncpg.DuplicateObjectError, asyncpg.UniqueViolationError):
        pass  # another database of this server migrates
    except asyncpg.InsufficientPrivilegeError:
        raise UserError(
            f"publishing needs a role that may do nothing else. As a superuser: {_MAKE_PUBLISHER}"
        ) from None


async def _and_publisher(connection: Connection) -> str:
    made = await connection.fetchrow(_ROLE, PUBLISHER_ROLE) is not None
    return "" if made else f"; {_MAKE_PUBLISHER}"


async def _bypass(connection: Connection) -> str:
    """So that the functions read whole tables at a TRUNCATE, and run no policy: where this role may give it."""
    is_super = await connection.fetchval("SELECT rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user")
    return "BYPASSRLS" if is_super else ""


def _wanted_role(us: str) -> str:
    return (
        f"the trigger functions need a role that can log in nowhere, and {us} may not make it. As a superuser: "
        f"CREATE ROLE {CAPTURE_ROLE} NOLOGIN NOINHERIT BYPASSRLS; GRANT {CAPTURE_ROLE} TO {us}"
    )


async def _has_migrations(connection: Connection, schema: str) -> bool:
    return bool(await connection.fetchval("SELECT to_regclass($1) IS NOT NULL", f"{schema}.migrations"))


async def _applied(connection: Connection, schema: str) -> dict[str, str]:
    if not await _has_migrations(connection, schema):
        return {}
    rows = await connection.fetch(f"SELECT name, digest FROM {schema}.migrations")
    return {row["name"]: row["digest"] for row in rows}


async def _is_done(connection: Connection, applied: dict[str, str], name: str, sql: str) -> bool:
    if applied.get(name) != _digest(sql):
        return False
    return name != FUNCTIONS or not await connection.fetchval(_FOREIGN_FUNCTIONS)


def _digest(sql: str) -> str:
    return hashlib.sha256(sql.encode()).hexdigest()


def _files(kind: str) -> Iterator[tuple[str, str]]:
    """In order: those with numbers, then the functions as one."""
    folder = resources.files("streamhub.postgres") / "sql" / kind
    functions = folder / FUNCTIONS
    yield from ((file.name, file.read_text(encoding="utf-8")) for file in _sql_in(folder))
    if functions.is_dir():
        yield FUNCTIONS, "\n".join(file.read_text(encoding="utf-8") for file in _sql_in(functions))


def _sql_in(folder: Traversable) -> list[Traversable]:
    return sorted((file for file in folder.iterdir() if file.name.endswith(".sql")), key=lambda file: file.name)
