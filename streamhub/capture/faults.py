"""Finds captured tables that are not captured as configured, and fixes them."""

import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.capture import captures
from streamhub.capture.catalog import HIDDEN_ROWS, ROW_TRIGGER
from streamhub.capture.spec import CaptureSpec
from streamhub.capture.triggers import Names
from streamhub.postgres.migrate import CAPTURE_ROLE

_CAPTURES: Final = """
SELECT c.id, c.relation_oid, c.relation = c.relation_oid AND k.relnatts >= c.natts AS is_same, c.name, c.natts,
       c.always, k.relkind = 'p' AS is_partitioned, CASE WHEN k.oid IS NOT NULL THEN format('%I.%I', n.nspname,
         k.relname) END AS name_now,
       to_regclass(c.name)::oid AS named_so_now,
       c.resource_type, c.key_columns, c.key_is_primary, c.organization_column, c.organization_id, c.test_column,
         c.test,
       c.excluded_columns, c.redacted_columns, c.anonymization_column, c.type_names::text, c.column_names::text,
       (SELECT json_object_agg(a.attnum, a.attname) FROM pg_attribute a
        WHERE a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped)::text AS columns,
       (SELECT a.atttypid FROM pg_attribute a WHERE a.attrelid = k.oid AND a.attnum = c.test_column
          AND streamhub.base_type(a.atttypid) = 'boolean'::regtype) IS NULL AND c.test_column IS NOT NULL
            AS test_is_other,
       (SELECT conkey FROM pg_constraint p WHERE p.conrelid = k.oid AND p.contype = 'p') AS primary_key,
       EXISTS (SELECT FROM pg_inherits i WHERE i.inhparent = k.oid AND k.relkind = 'r') AS has_heirs
FROM streamhub.captures c
LEFT JOIN pg_class k ON k.oid = c.relation_oid LEFT JOIN pg_namespace n ON n.oid = k.relnamespace
WHERE c.removed_at IS NULL
ORDER BY c.name
"""
_TABLES: Final = f"""
SELECT leaf.oid::regclass::text AS name, leaf.oid = $1 AS is_root, leaf.relkind::text AS kind,
       row_trigger.tgenabled::text AS row_enabled,
       row_trigger.tgfoid = to_regprocedure(format('streamhub.capture_%s()', $2::integer)) AS row_is_ours,
       truncate_trigger.tgenabled::text AS truncate_enabled,
       (SELECT min(t.tgname) FROM pg_trigger t WHERE t.tgrelid = leaf.oid AND NOT t.tgisinternal
        AND t.tgtype & 2 = 0 AND t.tgtype & 1 = 1 AND t.tgname < '{ROW_TRIGGER}') AS before_ours,
       quote_ident(n.nspname) AS schema, {HIDDEN_ROWS.format("leaf")} AS hidden_rows,
       quote_ident(pg_get_userbyid(leaf.relowner)) AS owner,
       has_function_privilege(leaf.relowner, row_trigger.tgfoid, 'EXECUTE') AS may_attach,
       has_table_privilege(r.oid, leaf.oid, 'SELECT') AND has_schema_privilege(r.oid, n.oid, 'USAGE') AS may_select
FROM pg_class leaf JOIN pg_namespace n ON n.oid = leaf.relnamespace
JOIN pg_roles r ON r.rolname = '{CAPTURE_ROLE}'
LEFT JOIN pg_trigger row_trigger ON row_trigger.tgrelid = leaf.oid AND row_trigger.tgname = $3
LEFT JOIN pg_trigger truncate_trigger ON truncate_trigger.tgrelid = leaf.oid AND truncate_trigger.tgname = $4
WHERE leaf.oid IN (SELECT oid FROM streamhub.partitions($1))
ORDER BY 1
"""


class CaptureFault(NamedTuple):
    """A reason why changes of a captured table are not captured as configured.

    `fix` is what `doctor --fix` applies: a statement, or the capture to add again, after that of the table `remove` is
    removed. None where a person has to decide. `unattended`: the relay does it itself.
    """

    table: str
    fault: str
    remedy: str
    fix: str | CaptureSpec | None = None
    remove: str | None = None
    unattended: bool = False


async def faults(connection: "asyncpg.Connection[Any]") -> list[CaptureFault]:
    """The faults of captured tables: of their columns, triggers, and the rights of the trigger functions."""
    found: list[CaptureFault] = []
    for row in await connection.fetch(_CAPTURES):
        if (of_table := _of_table(row)) is not None:
            found += of_table
            continue
        found += _of_columns(row)
        names = Names.of(row["relation_oid"], row["is_partitioned"])
        for leaf in await connection.fetch(_TABLES, row["relation_oid"], row["id"], *names):
            found += _of_triggers(row, leaf, names)
    return [fault._replace(table=_shown(fault.table)) for fault in found]


def _shown(name: str) -> str:
    """A name for people: without public."""
    return name.removeprefix("public.")


async def fix_all(connection: "asyncpg.Connection[Any]") -> AsyncIterator[CaptureFault]:
    """Fix every fault that has a fix, each once. Yields a fault when it is fixed; raises as `fix` does.

    One fix may make another unnecessary, so the faults are read again before each.
    """
    done: list[CaptureFault] = []
    while fault := next((each for each in await faults(connection) if each.fix and each not in done), None):
        done.append(fault)
        await fix(connection, fault)
        yield fault


async def fix(connection: "asyncpg.Connection[Any]", fault: CaptureFault) -> None:
    """Apply `fault.fix`. Raises UserError or an error of asyncpg where that fails."""
    if isinstance(fault.fix, str):
        await connection.execute(fault.fix)
    elif fault.fix is not None:
        async with connection.transaction():
            if fault.remove is not None:
                await captures.remove(connection, fault.remove)
            await captures.add(connection, fault.fix)


def _of_table(row: "asyncpg.Record") -> list[CaptureFault] | None:
    """Faults of the table as a whole; None where it is still the one that was captured."""
    again = _again(row)
    replaced = row["named_so_now"] is not None and row["named_so_now"] != row["relation_oid"]
    if row["name_now"] is None:
        if not replaced:
            return []  # it was dropped, which is no fault
        fault = "was dropped and created again, or restored from a dump: the new table's changes are not captured"
        return [CaptureFault(row["name"], fault, again, _spec(row))]
    if not row["is_same"]:
        fault = "was restored or created again since it was captured: its events have an error"
        same = row["name_now"] == row["name"]
        return [CaptureFault(row["name_now"], fault, again, _spec(row) if same else None)]
    if replaced:
        fault = f"was renamed to {row['name_now']}, and another table has its name, whose changes are not captured"
        remedy = f"streamhub capture remove {row['name_now']}, and {again}"
        return [CaptureFault(row["name"], fault, remedy, _spec(row), row["name_now"])]
    return None


def _of_columns(row: "asyncpg.Record") -> Iterator[CaptureFault]:
    table, again = row["name_now"], _again(row)
    columns = {int(number): name for number, name in json.loads(row["columns"] or "{}").items()}
    names = _names(row)
    newer = {name: number for number, name in columns.items() if number > row["natts"]}
    uses = dict.fromkeys(row["key_columns"], "is in its key")
    uses |= {row["organization_column"]: "has the organization", row["test_column"]: "has the environment"}
    uses |= {row["anonymization_column"]: "requests anonymization"}
    for number, use in uses.items():
        if number is None:
            continue
        name = names[number]
        if name in newer:
            fault = f"has another column {name!r} than the one that {use}"
            yield CaptureFault(table, fault, again, _spec(row))
        elif number not in columns:
            yield CaptureFault(table, f"has no column {name!r} any more, which {use}", again)
    if row["test_is_other"] and row["test_column"] in columns:
        fault = f"has a column {columns[row['test_column']]!r} that has the environment and is not boolean any more"
        yield CaptureFault(table, fault, "make it boolean again, or capture add with another --test-column")
    primary = row["primary_key"]
    if row["key_is_primary"] and primary is not None and set(primary) != set(row["key_columns"]):
        yield CaptureFault(table, "has another primary key than the one in its events' resource_id", again, _spec(row))
    for numbers, how in ((row["excluded_columns"], "excluded"), (row["redacted_columns"], "redacted")):
        for number in numbers:
            if number not in columns and names[number] in newer:
                fault = f"has a new column {names[number]!r} in place of one that was {how}; it stays {how}"
                yield CaptureFault(table, fault, again, _spec(row))
    if row["has_heirs"]:
        fault = "has INHERITS children now, whose changes are not captured"
        yield CaptureFault(table, fault, "capture the children themselves, or make them partitions")


def _of_triggers(row: "asyncpg.Record", leaf: "asyncpg.Record", names: Names) -> Iterator[CaptureFault]:
    table, again, spec = leaf["name"], _again(row), _spec(row)
    is_leaf = leaf["kind"] == "r"
    if leaf["kind"] == "f":
        yield CaptureFault(
            table, "is a foreign table: its changes are not captured", f"detach it from {row['name_now']}"
        )
        return
    if leaf["row_enabled"] is None:
        yield CaptureFault(table, "has no capture trigger: its changes are not captured", again, spec)
    elif not leaf["row_is_ours"]:
        yield CaptureFault(table, "has the trigger of an earlier capture", again, spec)
    else:
        yield from _of_firing(row, leaf, names.row, leaf["row_enabled"], "its changes are not captured")
    if is_leaf and leaf["truncate_enabled"] is None:
        yield CaptureFault(table, "has no TRUNCATE trigger: a TRUNCATE of it gives no events", again, spec)
    elif is_leaf:
        yield from _of_firing(row, leaf, names.truncate, leaf["truncate_enabled"], "a TRUNCATE of it gives no events")
    if is_leaf and leaf["truncate_enabled"] is not None and not leaf["may_select"]:
        grants = f"GRANT USAGE ON SCHEMA {leaf['schema']} TO {CAPTURE_ROLE}; GRANT SELECT ON {table} TO {CAPTURE_ROLE}"
        yield CaptureFault(
            table, f"may not be read by {CAPTURE_ROLE}: a TRUNCATE of it gives no events", grants, grants
        )
    if is_leaf and leaf["hidden_rows"]:
        fault = f"has row-level security that {CAPTURE_ROLE} does not bypass: a TRUNCATE of it gives no events"
        yield CaptureFault(table, fault, f"ALTER ROLE {CAPTURE_ROLE} BYPASSRLS")
    if leaf["kind"] == "p" and leaf["row_is_ours"] and not leaf["may_attach"]:
        grant = f"GRANT EXECUTE ON FUNCTION streamhub.capture_{row['id']}() TO {leaf['owner']}"
        yield CaptureFault(
            table, f"can get no new partition from its owner, {leaf['owner']}", grant, grant, unattended=True
        )
    if leaf["before_ours"] is not None:
        fault = f"has a trigger {leaf['before_ours']!r} that runs before the capture trigger"
        yield CaptureFault(table, fault, f"rename it to a name that sorts after '{ROW_TRIGGER}'")


def _of_firing(
    row: "asyncpg.Record", leaf: "asyncpg.Record", trigger: str, enabled: str, otherwise: str
) -> Iterator[CaptureFault]:
    enable = f'ALTER TABLE {leaf["name"]} ENABLE ALWAYS TRIGGER "{trigger}"'
    if enabled in ("D", "R"):
        fault = f"has its trigger {trigger!r} disabled: {otherwise}"
        yield CaptureFault(leaf["name"], fault, enable, enable)
    elif enabled == "O" and row["always"]:
        fault = f"has its trigger {trigger!r} turned from ALWAYS to ORIGIN: a replicating session is not captured"
        yield CaptureFault(leaf["name"], fault, enable, enable)


def _names(row: "asyncpg.Record") -> Mapping[int, str]:
    return {int(number): name for number, name in json.loads(row["column_names"]).items()}


def _spec(row: "asyncpg.Record") -> CaptureSpec:
    """The same capture, for the table that has the name now."""
    names = _names(row)

    def named(number: int | None) -> str | None:
        return None if number is None else names[number]

    return CaptureSpec(
        table=row["name"],
        resource_type=row["resource_type"],
        id_columns=() if row["key_is_primary"] else [names[number] for number in row["key_columns"]],
        organization_column=named(row["organization_column"]),
        organization_id=row["organization_id"],
        test_column=named(row["test_column"]),
        test=row["test"],
        exclude=[names[number] for number in row["excluded_columns"]],
        redact=[names[number] for number in row["redacted_columns"]],
        type_names=json.loads(row["type_names"]),
        anonymization_column=named(row["anonymization_column"]),
    )


def _again(row: "asyncpg.Record") -> str:
    return f"streamhub capture add {row['name']} … again, with the same options, or streamhub doctor --fix"
