"""What an append takes its events from, where that is in the hub's database: it is gone once they are appended."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import asyncpg


class NotConsumedError(Exception):
    """Not all that was to be consumed was there."""


class Consumption(NamedTuple):
    """`sql` is a DELETE that may stand in a WITH clause, with placeholders `{0}`, `{1}` … in the order of `arguments`.
    `rows` is how many it has to delete."""

    sql: str
    arguments: Sequence[object]
    rows: int

    def sql_from(self, first: int) -> str:
        """The statement, whose first argument has this number."""
        return self.sql.format(*(f"${n}" for n in range(first, first + len(self.arguments))))


async def consume(connection: "asyncpg.Connection[Any]", what: Consumption) -> None:
    """Consume this within the caller's transaction. Raises NotConsumedError."""
    tag = await connection.execute(what.sql_from(1), *what.arguments)
    deleted = int(tag.rpartition(" ")[2])
    if deleted != what.rows:
        raise NotConsumedError(f"{deleted} of {what.rows} rows were there to consume")
