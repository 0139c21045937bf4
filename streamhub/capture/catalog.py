"""What the relay must know of a source's captured tables: how they are captured, and every shape they have had."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from streamhub.core.changes import Capture
from streamhub.core.shapes import VIRTUAL, Column, Kind, Shape

_NUMBERS: Final = frozenset({"int8", "numeric"})
_DEEPEST: Final = 16  # a composite within a composite within …; PostgreSQL forbids cycles

_CAPTURES: Final = """
SELECT id, relation::oid AS relation, relation_oid, relation::text AS name, resource_type, key_columns,
       organization_column, organization_id, test_column, test, excluded_columns, redacted_columns,
       anonymization_column, type_names
FROM streamhub.captures WHERE id = ANY($1::integer[]) OR $1 IS NULL
"""

# A leaf's columns are tied to the root's by name, which PostgreSQL keeps the same; their numbers may differ. A leaf
# that was detached has no root to tie it to.
_COLUMNS: Final = """
SELECT a.attrelid AS relation, c.relfilenode AS filenode, c.relnatts AS natts, a.attname AS name, a.attnum AS position,
       root.attnum AS number, a.atttypid AS type, a.attgenerated::text = 'v' AS is_virtual
FROM pg_attribute a
JOIN pg_class c ON c.oid = a.attrelid
JOIN pg_attribute root ON root.attrelid = coalesce(pg_partition_root(a.attrelid), a.attrelid)
 AND root.attname = a.attname AND NOT root.attisdropped
WHERE a.attrelid = ANY($1::oid[]) AND a.attnum > 0 AND NOT a.attisdropped
  AND root.attrelid IN (SELECT relation_oid FROM streamhub.captures)
ORDER BY a.attrelid, a.attnum
"""

_TYPES: Final = """
SELECT t.oid, t.typname, t.typnamespace = 'pg_catalog'::regnamespace AS builtin, t.typtype, t.typbasetype,
       CASE WHEN t.typcategory = 'A' THEN t.typelem ELSE 0 END AS element,
       (SELECT json_agg(json_build_array(f.attname, f.atttypid::bigint) ORDER BY f.attnum) FROM pg_attribute f
        WHERE f.attrelid = t.typrelid AND f.attnum > 0 AND NOT f.attisdropped) AS fields
FROM pg_type t WHERE t.oid = ANY($1::oid[])
"""

_LEAVES: Final = """
SELECT leaf.relid::oid AS leaf FROM streamhub.captures c, LATERAL pg_partition_tree(c.relation_oid) leaf
WHERE c.removed_at IS NULL AND leaf.isleaf
UNION SELECT relation_oid FROM streamhub.captures WHERE removed_at IS NULL
"""


async def read_captures(connection: "asyncpg.Connection[Any]", only: Iterable[int] | None = None) -> list[Capture]:
    """The captures with these ids, or all; replaced and removed ones too."""
    rows = await connection.fetch(_CAPTURES, None if only is None else list(only))
    return [_capture(row) for row in rows]


async def captured_relations(connection: "asyncpg.Connection[Any]") -> list[int]:
    """The oids of all tables that are captured now, leaves of partitioned ones included."""
    return [row["leaf"] for row in await connection.fetch(_LEAVES)]


async def read_shapes(connection: "asyncpg.Connection[Any]", relations: Sequence[int]) -> list[Shape]:
    """The shapes that these tables have at this moment; a table that is gone has none."""
    rows = await connection.fetch(_COLUMNS, list(relations))
    kinds = await _kinds(connection, {row["type"] for row in rows})
    found: dict[tuple[int, int, int], list[Column]] = {}
    for row in rows:
        kind = VIRTUAL if row["is_virtual"] else kinds[row["type"]]
        column = Column(row["name"], row["number"], row["position"], kind)
        found.setdefault((row["relation"], row["filenode"], row["natts"]), []).append(column)
    return [Shape(*state, tuple(columns)) for state, columns in found.items()]


async def known_shapes(connection: "asyncpg.Connection[Any]") -> list[Shape]:
    """Every shape that was ever stored, oldest first."""
    rows = await connection.fetch("SELECT relation, filenode, natts, columns FROM streamhub.shapes ORDER BY seen_at")
    return [
        Shape(relation, filenode, natts, tuple(Column(*column) for column in json.loads(columns)))
        for relation, filenode, natts, columns in rows
    ]


async def store_shapes(connection: "asyncpg.Connection[Any]", shapes: Iterable[Shape]) -> None:
    """Remember shapes for relays to come."""
    for shape in shapes:
        columns = json.dumps(shape.columns, separators=(",", ":"), ensure_ascii=False)
        await connection.execute(
            "INSERT INTO streamhub.shapes (relation, filenode, natts, columns, digest) VALUES ($1, $2, $3, $4, $5) "
            "ON CONFLICT (relation, natts, digest) "
            "DO UPDATE SET filenode = EXCLUDED.filenode, seen_at = clock_timestamp()",
            shape.relation,
            shape.filenode,
            shape.natts,
            columns,
            hashlib.sha256(columns.encode()).hexdigest(),
        )


def _capture(row: "asyncpg.Record") -> Capture:
    fault = None
    if row["relation"] != row["relation_oid"]:
        fault = f"{row['name']} was restored or made anew since it was captured: run capture add for it again"
    return Capture(
        id=row["id"],
        relation=row["relation_oid"],
        resource_type=row["resource_type"],
        key_columns=tuple(row["key_columns"]),
        organization_column=row["organization_column"],
        organization_id=row["organization_id"],
        test_column=row["test_column"],
        test=row["test"],
        excluded_columns=frozenset(row["excluded_columns"]),
        redacted_columns=frozenset(row["redacted_columns"]),
        anonymization_column=row["anonymization_column"],
        type_names=json.loads(row["type_names"]),
        fault=fault,
    )


async def _kinds(connection: "asyncpg.Connection[Any]", types: set[int]) -> Mapping[int, Kind]:
    """How values of each type are respelled; domains, arrays and composites all the way down."""
    known: dict[int, asyncpg.Record] = {}
    wanted = set(types)
    for _ in range(_DEEPEST):
        if not wanted:
            break
        for row in await connection.fetch(_TYPES, list(wanted)):
            known[row["oid"]] = row
        inner: set[int] = set()
        for row in known.values():
            inner |= {row["typbasetype"], row["element"], *(type_ for _, type_ in _fields(row))}
        wanted = inner - set(known) - {0}
    return {type_: _kind(type_, known, _DEEPEST) for type_ in types}


def _kind(type_: int, known: Mapping[int, "asyncpg.Record"], depth: int) -> Kind:
    row = known.get(type_)
    if row is None or depth == 0:
        return None
    if row["builtin"] and row["typname"] in _NUMBERS:
        return "number"
    if row["builtin"] and row["typname"] == "bytea":
        return "bytea"
    if row["typbasetype"]:
        return _kind(row["typbasetype"], known, depth - 1)
    if row["element"]:
        element = _kind(row["element"], known, depth - 1)
        return None if element is None else ["array", element]
    # Every field is named, those that need nothing too: one that is not named was added since.
    fields = {name: _kind(field, known, depth - 1) for name, field in _fields(row)}
    return ["composite", fields] if fields else None


def _fields(row: "asyncpg.Record") -> list[tuple[str, int]]:
    if row["typtype"] != b"c" or row["fields"] is None:
        return []
    return [(name, type_) for name, type_ in json.loads(row["fields"])]
