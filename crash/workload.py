"""The application: its tables, random changes of them, and the events that each change must give.

Each row has the insert it comes from (`born`) and a version that each change raises by one. So the events alone show
what is missing, repeated or out of order.
"""

import hashlib
import random
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg

from crash.audit import Mark, Row

Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

RESUMING: Final = ("acme", "birch", "cedar")
FORGETFUL: Final = "dover"
NOT_ENTERPRISE: Final = "unheard"  # its changes give no events
ORGANIZATIONS: Final = (*RESUMING, FORGETFUL, NOT_ENTERPRISE)
TABLES: Final = ("items", "orders", "documents")
KEYS: Final = {"items": 150, "orders": 60, "documents": 20}

_COLUMNS: Final = """
  id text NOT NULL, organization text NOT NULL, test boolean NOT NULL, born text NOT NULL, version bigint NOT NULL,
  note text NOT NULL
"""
# A trigger of the application changes each updated row of `orders` once more in the same statement.
SCHEMA: Final = f"""
CREATE TABLE items ({_COLUMNS}, PRIMARY KEY (id));
CREATE TABLE orders ({_COLUMNS}, PRIMARY KEY (organization, id));
CREATE TABLE documents ({_COLUMNS}, PRIMARY KEY (id));
CREATE FUNCTION once_more() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE orders SET version = version + 1 WHERE organization = NEW.organization AND id = NEW.id;
  RETURN NULL;
END $$;
CREATE TRIGGER once_more AFTER UPDATE ON orders FOR EACH ROW WHEN (pg_trigger_depth() = 0)
EXECUTE FUNCTION once_more();
CREATE TABLE audit (
  n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, transaction text NOT NULL, event text NOT NULL,
  organization text NOT NULL, test boolean NOT NULL, resource_type text NOT NULL, resource_id text NOT NULL,
  born text NOT NULL, version bigint NOT NULL, digest text NOT NULL
);
"""
_NOTE_CHANGES: Final = """
INSERT INTO audit (transaction, organization, test, resource_type, resource_id, event, born, version, digest)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""


class Change(NamedTuple):
    row: Row
    mark: Mark


def digest(note: str) -> str:
    return hashlib.md5(note.encode(), usedforsecurity=False).hexdigest()


class Transaction:
    """The random statements of one transaction, and their changes. `prefix` begins each resource type."""

    def __init__(self, name: str, prefix: str, connection: Connection, chance: random.Random) -> None:
        self.name = name
        self.changes: list[Change] = []
        self._prefix = prefix
        self._connection = connection
        self._chance = chance
        self._statements = 0

    async def work(self) -> None:
        """Run some statements, some in savepoints that may be rolled back. Raises asyncpg's errors."""
        for _ in range(self._chance.choice((1, 1, 1, 2, 3, 6))):
            if self._chance.random() < 0.8:
                await self._statement()
                continue
            before = len(self.changes)
            savepoint = self._connection.transaction()
            await savepoint.start()
            await self._statement()
            await self._statement()
            if self._chance.random() < 0.5:
                await savepoint.rollback()
                del self.changes[before:]
            else:
                await savepoint.commit()

    async def note(self) -> None:
        """Write the changes to the audit table. The changed rows stay locked until the commit, so the orders agree."""
        rows = [(self.name, *change.row, *change.mark) for change in self.changes]
        await self._connection.executemany(_NOTE_CHANGES, rows)

    async def _statement(self) -> None:
        self._statements += 1
        table = self._chance.choices(TABLES, (24, 12, 1))[0]
        most = 2 if table == "documents" else self._chance.choice((1, 3, 3, 40))
        keys = [str(self._chance.randrange(KEYS[table])) for _ in range(self._chance.randint(1, most))]
        kind = self._chance.choices((self._insert, self._update, self._delete, self._touch), (4, 8, 2, 1))[0]
        if table == "items" and self._chance.random() < 0.15:
            await self._move(keys[0])
        else:
            await kind(table, keys)

    def _note(self, table: str) -> str:
        if table != "documents":
            return self._chance.choice(("", "short", 'naïve \n\t"quoted" text \' \\ ', "x" * 300))
        size = self._chance.choices((20_000, 60_000, 120_000, 1_000_000), (6, 6, 3, 1))[0]
        return self._chance.randbytes(size // 2).hex()  # it does not compress well

    def _place(self) -> tuple[str, bool]:
        return self._chance.choice(ORGANIZATIONS), self._chance.random() < 0.2

    async def _insert(self, table: str, keys: Sequence[str]) -> None:
        note = self._note(table)
        rows = await self._connection.fetch(
            f"INSERT INTO {table} SELECT id, $2, $3, $4 || id, 1, $5 FROM unnest($1::text[]) AS id "
            "ON CONFLICT DO NOTHING RETURNING *",
            keys, *self._place(), f"{self.name}.{self._statements}.", note,
        )  # fmt: skip
        self._changed("create", table, rows)

    async def _update(self, table: str, keys: Sequence[str]) -> None:
        rows = await self._connection.fetch(
            f"UPDATE {table} SET version = version + 1, note = $2 WHERE id = ANY ($1) RETURNING *",
            keys, self._note(table),
        )  # fmt: skip
        for row in rows:
            self._changed("update", table, [row])
            if table == "orders":
                self._changed("update", table, [{**row, "version": row["version"] + 1}])

    async def _delete(self, table: str, keys: Sequence[str]) -> None:
        self._changed(
            "destroy", table, await self._connection.fetch(f"DELETE FROM {table} WHERE id = ANY ($1) RETURNING *", keys)
        )

    async def _touch(self, table: str, keys: Sequence[str]) -> None:
        """An update that changes nothing gives no event. In `orders` the trigger changes the row after it."""
        rows = await self._connection.fetch(f"UPDATE {table} SET note = note WHERE id = ANY ($1) RETURNING *", keys)
        if table == "orders":
            self._changed("update", table, [{**row, "version": row["version"] + 1} for row in rows])

    async def _move(self, key: str) -> None:
        """Change the key, organization or environment: a destroy there and a create here."""
        organization, test = self._place()
        try:
            async with self._connection.transaction():
                rows = await self._connection.fetch(
                    "UPDATE items SET id = $2, organization = $3, test = $4, version = version + 1 WHERE id = $1 "
                    "RETURNING old.organization AS old_organization, old.test AS old_test, new.*",
                    key, self._chance.choice((key, str(self._chance.randrange(KEYS["items"])))), organization, test,
                )  # fmt: skip
        except asyncpg.UniqueViolationError:
            return
        for row in rows:
            before = {
                **row, "id": key, "organization": row["old_organization"], "test": row["old_test"],
                "version": row["version"] - 1,
            }  # fmt: skip
            if self._row("items", before) == self._row("items", row):
                self._changed("update", "items", [row])
            else:
                self._changed("destroy", "items", [before])
                self._changed("create", "items", [row])

    def _changed(self, event: str, table: str, rows: Sequence[Any]) -> None:
        for row in rows:
            mark = Mark(event, row["born"], row["version"], digest(row["note"]))
            self.changes.append(Change(self._row(table, row), mark))

    def _row(self, table: str, row: Any) -> Row:
        resource_id = f"{row['organization']}:{row['id']}" if table == "orders" else row["id"]
        return Row(row["organization"], row["test"], f"{self._prefix}{table}", resource_id)
