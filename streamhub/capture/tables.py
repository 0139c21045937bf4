"""The table of a capture: finds it, checks it, and looks up its columns."""

import difflib
import json
from collections.abc import Sequence
from typing import Any, Final

import asyncpg

from streamhub.capture.catalog import HIDDEN_ROWS, SHOWN
from streamhub.capture.spec import CaptureSpec
from streamhub.errors import UserError
from streamhub.postgres.migrate import CAPTURE_ROLE

# A name without a schema is in public: the hub's sessions search pg_catalog alone.
_TABLE: Final = f"""
SELECT c.oid, {SHOWN.format("c", "n")} AS name, format('%I.%I', n.nspname, c.relname) AS full_name, c.relnatts AS natts,
       c.relkind::text AS kind, c.relpersistence::text AS persistence, n.nspname AS schema,
       c.relispartition AS is_partition, CASE WHEN c.relispartition THEN pg_partition_root(c.oid)::text END AS root,
       has_table_privilege(c.oid, 'TRIGGER') AS may_trigger, {HIDDEN_ROWS.format("c")} AS hidden_rows,
       (SELECT min(i.inhrelid::regclass::text) FROM pg_inherits i WHERE i.inhparent = c.oid AND c.relkind = 'r')
         AS heir,
       (WITH RECURSIVE tree AS (
          SELECT c.oid AS relation WHERE c.relkind = 'p'
          UNION ALL SELECT i.inhrelid FROM tree JOIN pg_inherits i ON i.inhparent = tree.relation)
        SELECT min(relation::regclass::text) FROM tree JOIN pg_class leaf ON leaf.oid = relation
        WHERE leaf.relkind = 'f') AS foreign_partition,
       EXISTS (SELECT FROM pg_constraint k WHERE k.conrelid = c.oid AND k.condeferrable AND k.contype IN ('p', 'u'))
         AS deferrable_key
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace, pg_roles r
WHERE c.oid = coalesce(to_regclass($1), CASE WHEN $1 !~ '[.]' THEN to_regclass('public.' || $1) END)
  AND r.rolname = '{CAPTURE_ROLE}' AND to_regclass('streamhub.captures') IS NOT NULL
"""
COLUMNS: Final = """
SELECT a.attname AS name, a.attnum AS number, a.atttypid = 'boolean'::regtype AS is_boolean,
       a.attgenerated::text = 'v' AS is_virtual,
       array_position(k.conkey, a.attnum) AS key_position
FROM pg_attribute a LEFT JOIN pg_constraint k ON k.conrelid = a.attrelid AND k.contype = 'p'
WHERE a.attrelid = $1 AND a.attnum > 0 AND NOT a.attisdropped ORDER BY a.attnum
"""
# The errors of to_regclass for a text that is not a name. Later versions return null for most.
NOT_A_NAME: Final = (
    asyncpg.PostgresSyntaxError, asyncpg.InvalidNameError, asyncpg.FeatureNotSupportedError, asyncpg.DataError,
)  # fmt: skip


async def find(connection: "asyncpg.Connection[Any]", name: str) -> "asyncpg.Record":
    """The table of this name. Raises UserError where there is none, or this role may not read it."""
    try:
        row: asyncpg.Record | None = await connection.fetchrow(_TABLE, name)
    except NOT_A_NAME:
        raise UserError(
            f"{name!r} is not the name of a table: give schema and table, for example public.skus"
        ) from None
    except asyncpg.InsufficientPrivilegeError as error:
        if "streamhub" in error.args[0] or "for schema" not in error.args[0]:
            raise UserError(
                f"this role may not use the streamhub schema ({error.args[0]}): run the command as its owner"
            ) from None
        schema = error.args[0].rpartition(" ")[2]
        raise UserError(
            f"this role may not use the schema of {name}: GRANT USAGE ON SCHEMA {schema} TO it, {CAPTURE_ROLE}"
        ) from None
    except (asyncpg.InvalidSchemaNameError, asyncpg.UndefinedFunctionError):
        row = None
    if row is None and await connection.fetchval("SELECT to_regclass('streamhub.captures') IS NULL"):
        raise UserError("this database has no streamhub schema yet: streamhub migrate creates it")
    if row is None:
        raise UserError(f"there is no table {name!r} in this database: give schema and table, for example public.skus")
    return row


async def find_again(connection: "asyncpg.Connection[Any]", name: str, locked: "asyncpg.Record") -> "asyncpg.Record":
    """The locked table, read again. Raises UserError where another one has its name now."""
    try:
        table = await find(connection, name)
    except UserError:
        table = None
    if table is None or table["oid"] != locked["oid"]:
        raise UserError(
            f"{locked['name']} was replaced or renamed while the command waited: nothing was changed, run it again"
        )
    return table


def check_table(table: "asyncpg.Record") -> list[str]:
    """The warnings about a table. Raises UserError where it cannot be captured."""
    name = table["name"]
    if table["kind"] not in ("r", "p") or table["persistence"] == "t":
        kinds = {"v": "a view", "m": "a materialized view", "f": "a foreign table", "S": "a sequence", "i": "an index"}
        what = "a temporary table" if table["persistence"] == "t" else kinds.get(table["kind"], "not a table")
        raise UserError(f"{name} is {what}: only ordinary and partitioned tables have changes to capture")
    if table["schema"] in ("streamhub", "streamhub_hub", "pg_catalog", "information_schema"):
        raise UserError(f"{name} belongs to {table['schema']}: capture a table of the application")
    if table["is_partition"]:
        raise UserError(f"{name} is a partition: capture {table['root']}, which captures all its partitions")
    if table["foreign_partition"] is not None:
        raise UserError(
            f"{name} has the foreign table {table['foreign_partition']} as a partition, and no trigger sees its "
            "changes: detach it"
        )
    if table["heir"] is not None:
        raise UserError(
            f"{name} has INHERITS children ({table['heir']} is one), and a change made through it may be a change of a "
            "child: capture each table without children, or partition it instead"
        )
    if not table["may_trigger"]:
        raise UserError(f"this role may not put a trigger on {name}: GRANT TRIGGER ON {name} TO it")
    if table["hidden_rows"]:
        raise UserError(
            f"{name} has row-level security that {CAPTURE_ROLE}, which reads it at a TRUNCATE, does not bypass: "
            f"ALTER ROLE {CAPTURE_ROLE} BYPASSRLS"
        )
    warnings = []
    if table["deferrable_key"]:
        warnings.append(
            f"{name} has a DEFERRABLE unique key: an INSERT may be captured before the DELETE that made room for it"
        )
    if table["persistence"] == "u":
        warnings.append(f"{name} is UNLOGGED: a crash of PostgreSQL empties it without an event")
    return warnings


async def options_of(
    connection: "asyncpg.Connection[Any]", table: "asyncpg.Record", spec: CaptureSpec
) -> dict[str, Any]:
    """The capture's columns by number, as its row stores them. Raises UserError where the table lacks one."""
    columns = {row["name"]: row for row in await connection.fetch(COLUMNS, table["oid"])}

    def number(name: str, option: str) -> int:
        if name not in columns:
            near = difflib.get_close_matches(name, columns, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"it has {', '.join(columns)}"
            raise UserError(f"{option}: {table['name']} has no column {name!r}; {hint}")
        return int(columns[name]["number"])

    def stored(name: str, option: str) -> int:
        found = number(name, option)
        if columns[name]["is_virtual"]:
            raise UserError(
                f"{option}: {name!r} of {table['name']} is a VIRTUAL column, whose value no trigger sees: name a "
                "stored column"
            )
        return found

    def numbers(names: Sequence[str], option: str) -> list[int]:
        return sorted({number(name, option) for name in names})

    key = [stored(name, "--id-column") for name in spec.id_columns] or [
        row["number"]
        for row in sorted(columns.values(), key=lambda row: row["key_position"] or 0)
        if row["key_position"] is not None
    ]
    if not key:
        raise UserError(
            f"{table['name']} has no primary key: name the columns that identify a row, for example "
            f"--id-column {next(iter(columns), 'id')}"
        )
    if spec.test_column is not None and spec.test_column in columns and not columns[spec.test_column]["is_boolean"]:
        raise UserError(f"--test-column: {spec.test_column!r} of {table['name']} is not a boolean")
    if secret := [name for name in spec.redact if name in columns and columns[name]["number"] in key]:
        raise UserError(
            f"--redact: {secret[0]!r} is in the key of {table['name']}, and every event has the key as its "
            "resource_id: name another key (--id-column)"
        )
    options: dict[str, Any] = {
        "resource_type": spec.resource_type,
        "key_columns": key,
        "key_is_primary": not spec.id_columns,
        "organization_column": None
        if spec.organization_column is None
        else stored(spec.organization_column, "--org-column"),
        "organization_id": spec.organization_id,
        "test_column": None if spec.test_column is None else stored(spec.test_column, "--test-column"),
        "test": spec.test,
        "excluded_columns": numbers(spec.exclude, "--exclude"),
        "redacted_columns": numbers(spec.redact, "--redact"),
        "anonymization_column": None
        if spec.anonymization_column is None
        else stored(spec.anonymization_column, "--anonymization-column"),
        "type_names": json.dumps(dict(sorted(spec.type_names.items()))),
    }
    named = {*key, *options["excluded_columns"], *options["redacted_columns"]} | {
        options[name] for name in ("organization_column", "test_column", "anonymization_column")
    }
    by_number = {row["number"]: name for name, row in columns.items()}
    options["column_names"] = json.dumps({str(n): by_number[n] for n in sorted(named - {None})})
    return options
