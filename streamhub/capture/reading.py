"""The statements that read the rows of one table or leaf partition in key order, and write them to the outbox.

Each leaf is read by itself, so that a row's text has the leaf's columns in the leaf's order: the relay looks up its
shape by them (streamhub/core/shapes.py). Through the root it would have the root's order.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import asyncpg

from streamhub.capture.catalog import ROW_TRIGGER
from streamhub.errors import UserError

BATCH: Final = 200  # rows in one transaction; a writer of one of them waits for all
BATCH_BYTES: Final = 8 * 1024 * 1024  # stored bytes in one transaction, unless a single row has more
_ROW: Final = "streamhub_row"

LEAVES: Final = "SELECT oid FROM streamhub.partitions($1) WHERE is_leaf ORDER BY 1"
_LEAF: Final = """
SELECT format('%I.%I', n.nspname, c.relname) AS name, c.relrowsecurity AND row_security_active(c.oid) AS hides_rows,
       has_table_privilege(c.oid, 'SELECT') AS may_select, has_table_privilege(c.oid, 'UPDATE') AS may_lock,
       c.relowner <> current_user::regrole AND NOT o.rolsuper AS is_of_others,
       quote_ident(current_user) AS role, streamhub.reading_runs_code(c.oid) AS runs_code,
       c.relfilenode AS filenode,
       (SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid) AS names,
       (SELECT array_agg(a.attname::text) FROM pg_attribute a
        WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attlen = -1 AND NOT a.attisdropped
          AND a.attgenerated::text <> 'v') AS varying
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_roles o ON o.oid = c.relowner WHERE c.oid = $1
"""
# Indexes with the order of ORDER BY and of row comparison that hold all rows; the capture's own key first.
_ORDERS: Final = """
SELECT array_agg(a.attname::text ORDER BY k.n) AS names,
       array_agg(format_type(base.oid, CASE WHEN base.oid = a.atttypid THEN a.atttypmod ELSE -1 END) ORDER BY k.n)
         AS types,
       array_agg(base.typtype::text ORDER BY k.n) AS kinds,
       bool_and(base.oid::bigint < streamhub.first_oid_of_users() OR base.typtype = 'e' OR o_.rolsuper) AS is_safe
FROM pg_index i
CROSS JOIN LATERAL unnest(i.indkey::smallint[], i.indcollation::oid[], i.indclass::oid[], i.indoption::smallint[])
     WITH ORDINALITY AS k (number, collated, opclass, option, n)
LEFT JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.number AND a.attnum > 0
LEFT JOIN pg_type base ON base.oid = streamhub.base_type(a.atttypid) LEFT JOIN pg_roles o_ ON o_.oid = base.typowner
LEFT JOIN pg_opclass o ON o.oid = k.opclass
JOIN pg_class x ON x.oid = i.indexrelid
JOIN pg_am am ON am.oid = x.relam
WHERE i.indrelid = $1 AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND am.amname = 'btree'
  AND k.n <= i.indnkeyatts
GROUP BY i.indexrelid, i.indisprimary
HAVING bool_and(a.attnotnull AND a.attcollation = k.collated AND o.opcdefault) IS TRUE
   AND min(k.option) = max(k.option) AND min(k.option) IN (0, 3)
ORDER BY array_agg(a.attname::text ORDER BY a.attname) = $2 DESC, i.indisprimary DESC, i.indexrelid LIMIT 1
"""
_KEY: Final = """
SELECT array_agg(a.attname::text ORDER BY a.attname) FROM streamhub.captures c
JOIN pg_attribute a ON a.attrelid = c.relation_oid AND a.attnum = ANY (c.key_columns) WHERE c.id = $1
"""
# The key of the last row of the next batch, in the committed state. It locks nothing: the key of a row may change while
# its lock is waited for, and must not become the position.
_END: Final = """
SELECT key FROM (
  SELECT key, n, sum(size) OVER (ORDER BY n ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
  FROM (SELECT row_number() OVER (ORDER BY {order}) AS n, {key} AS key, {size} AS size
        FROM ONLY {leaf} AS {row} WHERE {after} ORDER BY {order} LIMIT {batch}) AS next_rows
) AS summed WHERE coalesce(bytes_before, 0) <= {batch_bytes} ORDER BY n DESC LIMIT 1
"""
# `locked` locks the rows, each in its newest version, before they take sequence numbers: the INSERT takes them, and
# reads what was locked.
_SEND: Final = f"""
WITH state AS MATERIALIZED (
  SELECT form, expands, fields,
         streamhub.origin('{{capture}}', {{oid}}, natts, CASE WHEN form = 'json' THEN 'b' ELSE 'bd' END, attachment,
                          CASE WHEN form = 'described' THEN streamhub.described({{oid}}) END) AS origin,
         streamhub.origin('{{capture}}', {{oid}}, natts, 'bdl', attachment,
                          streamhub.described({{oid}}, numbers)) AS identity_origin
  FROM (SELECT streamhub.known_form({{capture}}, {{oid}}) AS form,
    streamhub.expanding_columns({{oid}}) <> '{{{{}}}}' AS expands,
               streamhub.columns_ever({{oid}}) AS natts,
               (SELECT t.oid FROM pg_trigger t JOIN streamhub.captures c ON c.id = {{capture}}
                WHERE t.tgrelid = {{oid}} AND t.tgparentid <> 0 AND t.tgname = '{ROW_TRIGGER}_' || c.relation_oid)
                 AS attachment) AS facts,
       streamhub.identity({{oid}}, {{capture}})
), locked AS MATERIALIZED (
  SELECT {{whole}} AS whole, {{key}} AS key FROM ONLY {{leaf}} AS {{row}} WHERE {{range}} ORDER BY {{order}}
  FOR SHARE OF {{row}} {{wait}}
), sent AS (
  INSERT INTO streamhub.outbox (origin, new_row)
  SELECT CASE WHEN written IS NULL THEN identity_origin ELSE origin END, coalesce(written, identity)
  FROM (SELECT state.origin, state.identity_origin, r.written,
               CASE WHEN r.written IS NULL THEN streamhub.identity_text(l.whole, state.fields) END AS identity
        FROM locked AS l, state,
        LATERAL (SELECT streamhub.bounded_row_text(l.whole, {{oid}}, state.form = 'json', state.expands,
                                                   current_setting('lc_monetary')) AS written OFFSET 0) AS r) AS texts
)
SELECT (SELECT count(*) FROM locked) AS rows,
       (SELECT array_agg(key) FROM (SELECT {{key}} AS key FROM ONLY {{leaf}} AS {{row}} WHERE {{range}}
                                    EXCEPT SELECT key FROM locked) AS left_out) AS left_out
"""


class Leaf(NamedTuple):
    """A table or leaf partition with the statements that read it. A position is a text for each of `columns`.

    `lock` comes first: it keeps the table's owner from changing the code that the planner may run. `first_end` and
    `end` (after $1) return where the next batch ends, or no row. `first_send` (up to $1) and `send` (after $1, up to
    $2) write the rows that others have not locked, and return their number and the keys of the others. `send_one` ($1:
    a key) waits for the lock of one row.
    """

    oid: int
    filenode: int
    name: str
    shown: str  # the name for messages
    columns: Sequence[str]
    lock: str
    first_end: str
    end: str
    first_send: str
    send: str
    send_one: str


async def leaf(connection: "asyncpg.Connection[Any]", oid: int, capture: int) -> Leaf | None:
    """None where the table is gone. Raises UserError where this role may not read it, or it has no usable order.

    The statements run PostgreSQL's own code alone: output functions write the values, operators of default operator
    classes compare them, and no cast, domain check or policy is called. The session's search_path must be pg_catalog.
    """
    async with connection.transaction():
        await connection.execute("SELECT set_config('search_path', 'pg_catalog', true)")
        return await _leaf(connection, oid, capture)


async def _leaf(connection: "asyncpg.Connection[Any]", oid: int, capture: int) -> Leaf | None:
    row = await connection.fetchrow(_LEAF, oid)
    if row is None:
        return None
    name, role = row["name"].removeprefix("public."), row["role"]
    if not row["may_select"] or not row["may_lock"]:
        raise UserError(
            f"{role} may not read and lock the rows of {name}: GRANT SELECT, UPDATE ON {name} TO {role} "
            "(PostgreSQL requires UPDATE for SELECT … FOR SHARE; nothing is changed)"
        )
    if row["hides_rows"]:
        raise UserError(f"{name} has row-level security that {role} does not bypass: ALTER ROLE {role} BYPASSRLS")
    if row["runs_code"]:
        raise runs_code(name)
    key = await connection.fetchval(_KEY, capture)
    order = await connection.fetchrow(_ORDERS, oid, key)
    if order is None:
        raise UserError(
            f"{name} has no unique index on NOT NULL columns, and rows are sent in the order of one: "
            f"create one on {', '.join(key)}"
        )
    if not order["is_safe"]:
        raise UserError(f"{name} has a key of a type that a role without superuser rights defined: {order['types']}")
    alias = _ROW
    while alias in row["names"]:  # a column of that name would be read in place of the row
        alias += "_"
    columns = [f"{alias}.{_quoted(column)}" for column in order["names"]]
    own = f"({', '.join(columns)})"
    # A domain over an enum has no operators of its own: compare as the enum.
    compared = "({})".format(
        ", ".join(
            f"{column}::{type_}" if kind == "e" else column
            for column, type_, kind in zip(columns, order["types"], order["kinds"], strict=True)
        )
    )
    whole = await connection.fetchval("SELECT streamhub.stored_row($1, $2)", oid, alias)
    shared = {
        "whole": whole or alias,
        "leaf": row["name"],
        "row": alias,
        "oid": oid,
        "capture": capture,
        "order": own[1:-1],
        "key": "ARRAY[{}]".format(", ".join(f"format('%s', {column})" for column in columns)),
        "size": " + ".join(f"coalesce(pg_column_size({alias}.{_quoted(name)}), 0)" for name in row["varying"] or ())
        or "0",
        "batch": BATCH,
        "batch_bytes": BATCH_BYTES,
    }

    def given(parameter: int) -> str:
        values = (
            _value(f"(${parameter}::text[])[{n}]", type_, kind)
            for n, (type_, kind) in enumerate(zip(order["types"], order["kinds"], strict=True), 1)
        )
        return f"({', '.join(values)})"

    def send(rows: str, wait: str = "SKIP LOCKED") -> str:
        return _SEND.format(range=rows, wait=wait, **shared)

    return Leaf(
        oid,
        row["filenode"],
        row["name"],
        name,
        order["names"],
        lock=(
            f"LOCK TABLE ONLY {row['name']} IN SHARE UPDATE EXCLUSIVE MODE"
            if row["is_of_others"]
            else f"SELECT FROM ONLY {row['name']} LIMIT 0"
        ),
        first_end=_END.format(after="true", **shared),
        end=_END.format(after=f"{compared} > {given(1)}", **shared),
        first_send=send(f"{compared} <= {given(1)}"),
        send=send(f"{compared} > {given(1)} AND {compared} <= {given(2)}"),
        send_one=send(f"{compared} = {given(1)}", wait=""),
    )


def runs_code(name: str) -> UserError:
    return UserError(
        f"reading {name} would run functions of its owner with the rights of this role: an index or statistics of it "
        "call one with constants alone"
    )


def _value(text: str, type_: str, kind: str) -> str:
    """An SQL expression: the value of a text. A cast to an enum may be its owner's code, so it searches the labels."""
    if kind == "e":
        return f"(SELECT label FROM unnest(enum_range(NULL::{type_})) AS label WHERE format('%s', label) = {text})"
    return f"{text}::{type_}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
