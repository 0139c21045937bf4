"""Adding, listing and removing captures: everything is checked first, and all of it happens or nothing does."""

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub import migrate
from streamhub.capture import catalog, triggers
from streamhub.core.rendering import EVENTS
from streamhub.errors import UserError

_LOCK_TIMEOUT: Final = "5s"
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_LONGEST_TYPE: Final = 255
CONTROL_EVENTS: Final = frozenset({"heartbeat", "gap", "stream_error", "replay_started", "stream_complete"})

_TABLE: Final = f"""
SELECT c.oid, c.oid::regclass::text AS name, c.relkind::text AS kind, c.relpersistence::text AS persistence,
       n.nspname AS schema, c.relispartition AS is_partition,
       CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::text END AS root,
       has_table_privilege(c.oid, 'TRIGGER') AS may_trigger,
       has_table_privilege(f.proowner, c.oid, 'SELECT') AS owner_may_select, pg_get_userbyid(f.proowner) AS owner,
       {triggers.HIDDEN_ROWS.format("c")} AS hidden_rows,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.condeferrable AND k.contype IN ('p', 'u'))
         AS deferrable_key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     pg_proc f JOIN pg_roles r ON r.oid = f.proowner
WHERE c.oid = to_regclass($1) AND f.oid = 'streamhub.capture()'::regprocedure
"""
_COLUMNS: Final = """
SELECT a.attname AS name, a.attnum AS number, a.atttypid = 'boolean'::regtype AS is_boolean,
       array_position(k.conkey, a.attnum) AS key_position
FROM pg_attribute a LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p'
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# What to_regclass raises for a text that is no name; a later PostgreSQL gives null for most of them.
_NO_NAME: Final = (
    asyncpg.PostgresSyntaxError, asyncpg.InvalidNameError, asyncpg.FeatureNotSupportedError, asyncpg.DataError,
)  # fmt: skip
_OPTIONS: Final = (
    "resource_type", "key_columns", "organization_column", "organization_id", "test_column", "test",
    "excluded_columns", "redacted_columns", "anonymization_column",
)  # fmt: skip
_ACTIVE: Final = f"""
SELECT id, type_names::text AS type_names, {", ".join(_OPTIONS)} FROM streamhub.captures
WHERE relation_oid = $1 AND removed_at IS NULL
"""
_INSERT: Final = f"""
INSERT INTO streamhub.captures (relation, relation_oid, type_names, {", ".join(_OPTIONS)})
VALUES ($1::oid::regclass, $1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) RETURNING id
"""
# After a dump and restore one that was captured before may still be there beside a newer one, its relation_oid stale.
_REMOVE: Final = """
UPDATE streamhub.captures SET removed_at = clock_timestamp() WHERE removed_at IS NULL AND relation = $1::oid::regclass
"""
_LIST: Final = f"""
SELECT id, relation::text AS table, relation_oid, type_names::text AS type_names, created_at, {", ".join(_OPTIONS)}
FROM streamhub.captures WHERE removed_at IS NULL AND EXISTS (SELECT FROM pg_class WHERE oid = relation_oid) ORDER BY 2
"""


class CaptureSpec(NamedTuple):
    """What to capture and how, by the names that people use. `organization_id` is a registered organization's id.

    Exactly one of `organization_column` and `organization_id` is given; `id_columns` empty means the primary key.
    """

    table: str
    resource_type: str
    id_columns: Sequence[str] = ()
    organization_column: str | None = None
    organization_id: str | None = None
    test_column: str | None = None
    test: bool = False
    exclude: Sequence[str] = ()
    redact: Sequence[str] = ()
    type_names: Mapping[str, str] = {}
    anonymization_column: str | None = None


class AddResult(NamedTuple):
    """`state` is ``added``, ``replaced`` or ``unchanged``; `warnings` are sentences."""

    state: str
    table: str
    warnings: Sequence[str]


class ListedCapture(NamedTuple):
    """A capture as it is now, columns by their present names."""

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
    """Capture a table from now on, or change how it is captured. Raises UserError for whatever stands against it."""
    _check_names(spec)
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await migrate.keep_out(connection)  # before the table's lock: a migration is not waited for with that in hand
        table = await _table(connection, spec.table)
        warnings = _check_table(table)
        options = await _options(connection, table, spec)
        type_names = json.dumps(dict(sorted(spec.type_names.items())))
        try:
            # Nobody writes between the shape that is stored and the trigger.
            await connection.execute(f"LOCK TABLE {table['name']} IN SHARE ROW EXCLUSIVE MODE")
            active = await connection.fetchrow(_ACTIVE, table["oid"])
            if active is not None and active["type_names"] == type_names and _same(active, options):
                state, capture = "unchanged", active["id"]
            else:
                state = "added" if active is None else "replaced"
                await connection.execute(_REMOVE, table["oid"])
                capture = await connection.fetchval(
                    _INSERT, table["oid"], type_names, *(options[name] for name in _OPTIONS)
                )
            always = await triggers.install(connection, table["oid"], capture)
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"{table['name']} was locked by others for {_LOCK_TIMEOUT}: nothing was changed, try again"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise UserError(f"{table['name']} cannot be captured by this role: {error.args[0]}") from None
        shapes = await catalog.read_shapes(connection, await catalog.captured_relations(connection))
        await catalog.store_shapes(connection, shapes)
    if not always:
        warnings.append(
            f"this role does not own {table['name']}, so a session with session_replication_role = replica is not "
            "captured: run the command as the table's owner to change that"
        )
    return AddResult(state, table["name"], warnings)


async def remove(connection: "asyncpg.Connection[Any]", table: str) -> str:
    """Capture no more of a table; what was written before still comes. The table's name; UserError if not captured."""
    async with connection.transaction():
        await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
        await migrate.keep_out(connection)
        try:
            row = await connection.fetchrow(
                "SELECT relation::oid, relation::text AS name FROM streamhub.captures "
                "WHERE removed_at IS NULL AND relation = to_regclass($1) LIMIT 1",
                table,
            )
        except _NO_NAME:
            row = None
        if row is None:
            raise UserError(f"{table!r} is not captured: streamhub capture list shows what is")
        try:
            await triggers.uninstall(connection, row["relation"])
        except asyncpg.LockNotAvailableError:
            raise UserError(
                f"{row['name']} was locked by others for {_LOCK_TIMEOUT}: nothing was changed, try again"
            ) from None
        except asyncpg.InsufficientPrivilegeError as error:
            raise UserError(f"{row['name']} belongs to another role: {error.args[0]}") from None
        await connection.execute(_REMOVE, row["relation"])
    return str(row["name"])


async def list_captures(connection: "asyncpg.Connection[Any]") -> list[ListedCapture]:
    """What is captured now, by table."""
    listed = []
    for row in await connection.fetch(_LIST):
        names = {each["number"]: each["name"] for each in await connection.fetch(_COLUMNS, row["relation_oid"])}

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


def check_type(name: str) -> None:
    """Raises UserError unless `name` may be an event's type."""
    if not _TYPE.fullmatch(name) or len(name) > _LONGEST_TYPE:
        raise UserError(
            f"{name!r} is no type: letters, digits, - and _ in segments joined by dots, at most {_LONGEST_TYPE} "
            "characters, for example product.updated"
        )
    if name.rpartition(".")[2] in CONTROL_EVENTS:
        raise UserError(f"{name!r} is no type: {name.rpartition('.')[2]!r} is the name of a control frame")


def _check_names(spec: CaptureSpec) -> None:
    check_type(spec.resource_type)
    for event, name in spec.type_names.items():
        if event not in EVENTS:
            raise UserError(f"{event!r} is no event of a row: one of {', '.join(EVENTS)}")
        check_type(name)
    if (spec.organization_column is None) == (spec.organization_id is None):
        raise UserError(
            "name either the column that holds the organization's id (--org-column) or one organization (--org)"
        )
    if spec.test and spec.test_column is not None:
        raise UserError("name either the column that tells the environment (--test-column) or --test, not both")


async def _table(connection: "asyncpg.Connection[Any]", name: str) -> "asyncpg.Record":
    try:
        row: asyncpg.Record | None = await connection.fetchrow(_TABLE, name)
    except _NO_NAME:
        raise UserError(f"{name!r} is no table's name: schema and table, for example public.skus") from None
    except asyncpg.InsufficientPrivilegeError as error:
        raise UserError(
            f"this role may not use the streamhub schema ({error.args[0]}): run the command as the role that owns it"
        ) from None
    except (asyncpg.UndefinedFunctionError, asyncpg.InvalidSchemaNameError):
        raise UserError("this database has no streamhub schema yet: streamhub migrate makes it") from None
    if row is None:
        raise UserError(f"there is no table {name!r} in this database: schema and table, for example public.skus")
    return row


def _check_table(table: "asyncpg.Record") -> list[str]:
    """The warnings about a table that can be captured; UserError for one that cannot."""
    name = table["name"]
    if table["kind"] not in ("r", "p") or table["persistence"] == "t":
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
        what = "a temporary table" if table["persistence"] == "t" else kinds.get(table["kind"], "no table")
        raise UserError(f"{name} is {what}: only ordinary and partitioned tables have changes to capture")
    if table["schema"] in ("streamhub", "streamhub_hub", "pg_catalog", "information_schema"):
        raise UserError(f"{name} belongs to {table['schema']}: capture a table of the application")
    if table["is_partition"]:
        raise UserError(f"{name} is a partition: capture {table['root']}, and all of its partitions are")
    if not table["may_trigger"]:
        raise UserError(f"this role may not put a trigger on {name}: GRANT TRIGGER ON {name} TO it")
    owner = table["owner"]
    if not table["owner_may_select"]:
        raise UserError(
            f"{owner}, who owns the streamhub schema, may not read {name}: GRANT SELECT ON {name} TO {owner}"
        )
    if table["hidden_rows"]:
        raise UserError(
            f"{name} has row-level security that {owner}, who owns the streamhub schema, does not bypass: "
            f"ALTER ROLE {owner} BYPASSRLS"
        )
    if table["deferrable_key"]:
        return [
            f"{name} has a DEFERRABLE unique key: an INSERT may be captured before the DELETE that made room for it"
        ]
    return []


async def _options(connection: "asyncpg.Connection[Any]", table: "asyncpg.Record", spec: CaptureSpec) -> dict[str, Any]:
    columns = {row["name"]: row for row in await connection.fetch(_COLUMNS, table["oid"])}

    def number(name: str, option: str) -> int:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(columns)}"
            raise UserError(f"{option}: {table['name']} has no column {name!r}; {hint}")
        return int(columns[name]["number"])

    def numbers(names: Sequence[str], option: str) -> list[int]:
        return sorted({number(name, option) for name in names})

    key = [number(name, "--id-column") for name in spec.id_columns] or [
        row["number"]
        for row in sorted(columns.values(), key=lambda row: row["key_position"] or 0)
        if row["key_position"] is not None
    ]
    if not key:
        raise UserError(
            f"{table['name']} has no primary key: name the columns that tell its rows apart, for example "
            f"--id-column {next(iter(columns), 'id')}"
        )
    if spec.test_column is not None and spec.test_column in columns and not columns[spec.test_column]["is_boolean"]:
        raise UserError(f"--test-column: {spec.test_column!r} of {table['name']} is no boolean")
    return {
        "resource_type": spec.resource_type,
        "key_columns": key,
        "organization_column": None
        if spec.organization_column is None
        else number(spec.organization_column, "--org-column"),
        "organization_id": spec.organization_id,
        "test_column": None if spec.test_column is None else number(spec.test_column, "--test-column"),
        "test": spec.test,
        "excluded_columns": numbers(spec.exclude, "--exclude"),
        "redacted_columns": numbers(spec.redact, "--redact"),
        "anonymization_column": None
        if spec.anonymization_column is None
        else number(spec.anonymization_column, "--anonymization-column"),
    }


def _same(active: "asyncpg.Record", options: Mapping[str, Any]) -> bool:
    return all(active[name] == value for name, value in options.items())
