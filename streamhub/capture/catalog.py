"""What the relay reads about a source's captured tables: their captures, and every shape they have had."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import asyncpg

from streamhub.core.changes import Capture
from streamhub.core.kinds import PADDED, UNKNOWN, VIRTUAL, Kind
from streamhub.core.shapes import Column, Shape

ROW_TRIGGER: Final = "!streamhub"
"""The trigger of a captured table without partitions. A partitioned table's triggers end with its oid."""

HIDDEN_ROWS: Final = """
({0}.relrowsecurity AND NOT (r.rolsuper OR r.rolbypassrls
  OR (pg_has_role(r.oid, {0}.relowner, 'USAGE') AND NOT {0}.relforcerowsecurity)))
"""
"""An SQL expression: whether policies of the relation {0} hide rows from the role r."""

# An SQL expression: the name of the relation {0} in the schema {1} for people, without public.
SHOWN: Final = (
    "CASE WHEN {1}.nspname = 'public' THEN quote_ident({0}.relname) ELSE format('%I.%I', {1}.nspname, {0}.relname) END"
)

_MAX_DEPTH: Final = 16  # of nested types: a domain over an array of domains over …
_SCALARS: Final[Mapping[str, Kind]] = {
    "int2": "plain", "int4": "plain", "float4": "plain", "float8": "plain", "int8": "number", "numeric": "number",
    "bool": "boolean", "bytea": "bytea", "json": "json", "jsonb": "json", "bpchar": PADDED, "timestamp": "timestamp",
    "timestamptz": "timestamptz",
}  # fmt: skip
_VECTORS: Final[Mapping[str, Kind]] = {"int2vector": ["vector", "plain"], "oidvector": ["vector", None]}

_CAPTURES: Final = """
SELECT c.id, c.relation::oid AS relation, c.relation_oid, c.name, c.natts, k.relnatts AS natts_now,
  c.column_names::text,
       c.resource_type, c.key_columns, c.organization_column, c.organization_id, c.test_column, c.test,
       c.excluded_columns, c.redacted_columns, c.anonymization_column, c.type_names::text
FROM streamhub.captures c LEFT JOIN pg_class k ON k.oid = c.relation_oid
WHERE c.id = ANY($1::integer[]) OR $1 IS NULL
"""

# A leaf's columns match the root's by name, which PostgreSQL keeps equal while the leaf is attached; their numbers may
# differ. The row trigger shows that the leaf is attached: a snapshot that has the trigger has the names.
_SHAPES: Final = f"""
SELECT c.id AS capture, k.oid AS relation, coalesce(t.oid, 0) AS attachment, k.relfilenode AS filenode,
       k.relnatts AS natts, streamhub.form(k.oid) AS form, streamhub.expanding_columns(k.oid) <> '{{}}' AS expands,
       a.attname AS name, root.attnum AS number, a.attnum AS position, a.atttypid AS type,
       a.attgenerated::text = 'v' AS is_virtual
FROM streamhub.captures c
CROSS JOIN LATERAL streamhub.partitions(c.relation_oid) AS leaf
JOIN pg_class k ON k.oid = leaf.oid AND k.relkind = 'r'
LEFT JOIN pg_trigger t ON t.tgrelid = k.oid AND t.tgname = '{ROW_TRIGGER}_' || c.relation_oid AND t.tgparentid <> 0
JOIN pg_attribute a ON a.attrelid = k.oid AND a.attnum > 0 AND NOT a.attisdropped
JOIN pg_attribute root ON root.attrelid = c.relation_oid AND root.attname = a.attname AND NOT root.attisdropped
WHERE c.relation = c.relation_oid AND (k.oid = c.relation_oid OR t.oid IS NOT NULL)
  AND (c.id = ANY($1::integer[]) OR $1 IS NULL) AND (k.oid = ANY($2::oid[]) OR $2 IS NULL)
  AND (c.removed_at IS NULL OR $1 IS NOT NULL)
ORDER BY 1, 2, a.attnum
"""

_TYPES: Final = """
SELECT t.oid, t.typname, t.oid::bigint < streamhub.first_oid_of_users() AS builtin, t.typtype, t.typbasetype,
       CASE WHEN t.typsubscript = 'array_subscript_handler'::regproc THEN t.typelem ELSE 0 END AS element,
       (SELECT e.typdelim::text FROM pg_type e WHERE e.oid = t.typelem) AS delimiter
FROM pg_type t WHERE t.oid = ANY($1::oid[])
"""
_STORE: Final = """
INSERT INTO streamhub.shapes (capture, relation, attachment, filenode, natts, form, expands, columns, digest)
SELECT * FROM unnest($1::integer[], $2::oid[], $3::oid[], $4::oid[], $5::smallint[], $6::text[], $7::boolean[],
                     $8::json[], $9::text[])
ON CONFLICT (capture, relation, attachment, natts, digest)
DO UPDATE SET filenode = EXCLUDED.filenode, seen_at = clock_timestamp()
"""


async def read_captures(connection: "asyncpg.Connection[Any]", only: Iterable[int] | None = None) -> list[Capture]:
    """The captures with these ids; None: all. Includes replaced and removed ones."""
    rows = await connection.fetch(_CAPTURES, None if only is None else list(only))
    return [_capture(row) for row in rows]


async def read_shapes(
    connection: "asyncpg.Connection[Any]",
    *,
    captures: Sequence[int] | None = None,
    relations: Sequence[int] | None = None,
) -> list[Shape]:
    """The current shapes of captured tables; a dropped table has none.

    `captures`: ids; None: all that are not removed. `relations`: oids of tables and leaf partitions; None: all.
    """
    rows = await connection.fetch(_SHAPES, captures, relations)
    kinds = await read_kinds(connection, {row["type"] for row in rows})
    found: dict[tuple[Any, ...], list[Column]] = {}
    for row in rows:
        kind = VIRTUAL if row["is_virtual"] else kinds[row["type"]]
        found.setdefault(tuple(row.values())[:7], []).append(Column(row["name"], row["number"], row["position"], kind))
    return [Shape._make((*state, tuple(columns))) for state, columns in found.items()]


async def read_names(connection: "asyncpg.Connection[Any]", relations: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """The column names of these relations, in the order of positions."""
    rows = await connection.fetch(
        "SELECT attrelid, array_agg(attname::text ORDER BY attnum) FROM pg_attribute "
        "WHERE attrelid = ANY($1::oid[]) AND attnum > 0 AND NOT attisdropped GROUP BY 1",
        list(relations),
    )
    return {relation: tuple(names) for relation, names in rows}


async def known_shapes(connection: "asyncpg.Connection[Any]") -> list[Shape]:
    """All stored shapes, oldest first."""
    rows = await connection.fetch(
        "SELECT capture, relation, attachment, filenode, natts, form, expands, columns::text FROM streamhub.shapes "
        "ORDER BY seen_at"
    )
    return [Shape._make((*state, tuple(Column(*column) for column in json.loads(columns)))) for *state, columns in rows]


async def store_shapes(connection: "asyncpg.Connection[Any]", shapes: Iterable[Shape]) -> None:
    """Store shapes for later relays."""
    stored = []
    for *state, columns in shapes:
        text = json.dumps(columns, separators=(",", ":"), ensure_ascii=False)
        stored.append((*state, text, hashlib.sha256(text.encode()).hexdigest()))
    if stored:
        await connection.execute(_STORE, *map(list, zip(*stored, strict=True)))


async def read_kinds(connection: "asyncpg.Connection[Any]", types: Iterable[int]) -> Mapping[int, Kind]:
    """How values of each type are written. UNKNOWN for a dropped type and for composites, which rows describe."""
    requested = set(types)
    known: dict[int, asyncpg.Record] = {}
    pending = set(requested)
    for _ in range(_MAX_DEPTH):
        if not pending:
            break
        for row in await connection.fetch(_TYPES, list(pending)):
            known[row["oid"]] = row
        inner: set[int] = set()
        for row in known.values():
            inner |= {row["typbasetype"], row["element"]}
        pending = inner - set(known) - {0}
    return {type_: _kind(type_, known, _MAX_DEPTH) for type_ in requested}


def _capture(row: "asyncpg.Record") -> Capture:
    fault = None
    if row["relation"] != row["relation_oid"] or (row["natts_now"] or row["natts"]) < row["natts"]:
        fault = f"{row['name']} was restored or created again since it was captured: run capture add for it again"
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
        natts=row["natts"],
        column_names={int(number): name for number, name in json.loads(row["column_names"]).items()},
        fault=fault,
    )


def _kind(type_: int, known: Mapping[int, "asyncpg.Record"], depth: int) -> Kind:
    row = known.get(type_)
    if row is None or depth == 0:
        return UNKNOWN
    if row["builtin"] and row["typname"] in _SCALARS:
        return _SCALARS[row["typname"]]
    if row["builtin"] and row["typname"] in _VECTORS:
        return _VECTORS[row["typname"]]
    if row["typbasetype"]:
        return _kind(row["typbasetype"], known, depth - 1)
    if row["element"]:
        delimiter = [] if row["delimiter"] == "," else [row["delimiter"]]
        return ["array", _kind(row["element"], known, depth - 1), *delimiter]
    return UNKNOWN if row["typtype"] == b"c" else None
