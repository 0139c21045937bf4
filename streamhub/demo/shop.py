"""The sample shop: fills its tables once, then changes rows at a steady rate.

It is an ordinary application: it writes to its own tables and sets `streamhub.who`. It reports each commit to
`on_commit`, so that the demo can compare what was committed with what a stream delivers.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
import string
import time
from collections import deque
from collections.abc import Awaitable, Callable
from importlib import resources
from typing import Any, NamedTuple

from streamhub.backoff import rest
from streamhub.demo.catalog import CITIES, FAMILY_NAMES, GIVEN_NAMES, TENANTS, WAREHOUSES, Tenant
from streamhub.postgres.connections import DATABASE_ERRORS, AnyConnection, Pool

log = logging.getLogger(__name__)

TABLES = ("customers", "skus", "prices", "stock_items", "orders", "line_items")
TEST_SHARE = 0.15  # of the commits are of the test environment
KEPT_ORDERS = 1000  # finished orders of an environment; older ones are deleted
STATEMENT_WITHIN = 10.0  # seconds
NEXT_STATUS = {"pending": "paid", "paid": "shipped", "shipped": "delivered"}


class Commit(NamedTuple):
    """A committed transaction: its number of rows, when it began and when COMMIT returned (perf_counter)."""

    organization_id: str
    transaction_id: str
    rows: int
    began: float
    at: float


class Shop:
    """Call `create_tables` and `open` once, then `run` until it is cancelled."""

    def __init__(self, pool: Pool, on_commit: Callable[[Commit], None], seed: int | None = None) -> None:
        self._pool = pool
        self._on_commit = on_commit
        self._random = random.Random(seed)
        self._stores = [_Store(tenant, test) for tenant in TENANTS for test in (False, True)]

    async def create_tables(self) -> None:
        """Create those that do not exist."""
        async with self._pool.acquire() as connection:
            if await connection.fetchval("SELECT to_regclass('shop.line_items') IS NULL"):
                await connection.execute((resources.files(__package__) / "shop.sql").read_text(encoding="utf-8"))

    async def open(self) -> None:
        """Add the goods that are missing, and read the rows of an earlier run."""
        for store in self._stores:
            async with self._pool.acquire() as connection:
                known = await connection.fetchval(
                    "SELECT count(*) FROM shop.skus WHERE organization_id = $1 AND test = $2", *store.owner
                )
            if not known:
                await self._transact(store, "importer", self._stock_up)
            await self._load(store)

    async def run(self, rate: float) -> None:
        """Commit `rate` times a second, on as many connections as that needs. Continues after the database was away."""
        writers = min(8, 1 + int(rate // 100))
        await asyncio.gather(*(self._write(rate / writers) for _ in range(writers)))

    async def write_once(self, tenant: Tenant) -> None:
        """Write one order in the live environment."""
        store = next(each for each in self._stores if each.tenant == tenant and not each.test)
        await self._transact(store, "storefront", self._place_order)

    async def _write(self, rate: float) -> None:
        due = time.perf_counter()
        while True:
            # More than a second late: skip it. A burst would show in the latencies.
            due = max(due + 1 / rate, time.perf_counter() - 1)
            await rest(max(0.0, due - time.perf_counter()))
            (store,) = self._random.choices(
                self._stores,
                [each.tenant.share * (TEST_SHARE if each.test else 1 - TEST_SHARE) for each in self._stores],
            )
            action, application = self._choose(store)
            try:
                await self._transact(store, application, action)
            except DATABASE_ERRORS as error:
                log.warning("the shop could not write, retrying in 0.5 s: %s", error)
                await rest(0.5)

    def _choose(self, store: _Store) -> tuple[_Action, str]:
        if len(store.finished) > KEPT_ORDERS:
            return self._delete_order, "archiver"
        choices: list[tuple[float, _Action, str]] = [
            (18, self._place_order, "storefront"),
            (48 if store.unfinished else 0, self._advance_order, "warehouse"),
            (12, self._restock, "warehouse"),
            (12, self._change_prices, "back-office"),
            (6, self._change_customer, "storefront"),
            (4, self._describe_sku, "back-office"),
            (2, self._request_anonymization, "privacy"),
            (1, self._cancel_anonymization, "privacy"),
            (1, self._delete_customer, "privacy"),
        ]
        ((_, action, application),) = self._random.choices(choices, [weight for weight, _, _ in choices])
        return action, application

    async def _transact(self, store: _Store, application: str, action: _Action) -> None:
        async with self._pool.acquire(timeout=STATEMENT_WITHIN) as connection:
            began = time.perf_counter()
            async with connection.transaction():
                transaction_id = await connection.fetchval(
                    "SELECT pg_current_xact_id()::text FROM set_config('streamhub.who', $1, true)",
                    json.dumps({"application": application}),
                )
                work = _Transaction(connection, store)
                await action(work)
            if work.rows:
                self._on_commit(Commit(store.tenant.id, transaction_id, work.rows, began, time.perf_counter()))
            for change in work.once_committed:
                change()

    # -- what happens in a shop; each is one transaction

    async def _stock_up(self, work: _Transaction) -> None:
        for code, name, cents in work.store.tenant.goods:
            sku = self._id()
            await work.run(
                "INSERT INTO shop.skus (id, organization_id, test, code, name, tags) VALUES ($3, $1, $2, $4, $5, $6)",
                sku, code, name, [code.split("-")[0].lower()],
            )  # fmt: skip
            await work.run(
                """INSERT INTO shop.prices (id, organization_id, test, sku_id, currency_code, amount)
                   VALUES ($3, $1, $2, $4, $5, $6::int / 100.0)""",
                self._id(), sku, work.store.tenant.currency, cents,
            )  # fmt: skip
            await work.run(
                """INSERT INTO shop.stock_items (id, organization_id, test, sku_id, warehouse, quantity)
                   VALUES ($3, $1, $2, $4, $5, $6)""",
                self._id(), sku, self._random.choice(WAREHOUSES), self._random.randrange(40, 200),
            )  # fmt: skip
        for _ in range(8):
            await self._add_customer(work)

    async def _add_customer(self, work: _Transaction) -> str:
        customer = self._id()
        given, family = self._random.choice(GIVEN_NAMES), self._random.choice(FAMILY_NAMES)
        city, country = self._random.choice(CITIES)
        local = "".join(letter for letter in f"{given}.{family}".lower() if letter.isascii() and letter.isalnum())
        await work.run(
            """INSERT INTO shop.customers (id, organization_id, test, name, email, city, country_code, password_digest)
               VALUES ($3, $1, $2, $4, $5, $6, $7, $8)""",
            customer, f"{given} {family}", f"{local}{self._random.randrange(100)}@example.com", city, country,
            "scrypt$" + self._id(),
        )  # fmt: skip
        work.once_committed.append(lambda: work.store.customers.append(customer))
        return customer

    async def _place_order(self, work: _Transaction) -> None:
        store = work.store
        newcomer = not store.customers or (len(store.customers) < 200 and self._random.random() < 0.2)
        customer = await self._add_customer(work) if newcomer else self._random.choice(store.customers)
        basket = [
            (sku, self._random.choice((1, 1, 1, 2, 3)))
            for sku in self._random.sample(store.skus, min(len(store.skus), self._random.choice((1, 1, 2, 2, 3, 4))))
        ]
        order = self._id()
        await work.run(
            """INSERT INTO shop.orders (id, organization_id, test, customer_id, status, currency_code, total_amount)
               SELECT $3, $1, $2, c.id, 'pending', $5, (SELECT sum(p.amount * b.quantity) FROM shop.prices p
                        JOIN unnest($6::text[], $7::int[]) AS b (sku_id, quantity) USING (sku_id))
                 FROM (SELECT (SELECT id FROM shop.customers WHERE id = $4 FOR KEY SHARE)) AS c (id)""",
            order, customer, store.tenant.currency, [sku for sku, _ in basket], [quantity for _, quantity in basket],
        )  # fmt: skip
        for sku, quantity in sorted(basket):  # all writers use one order, so that there is no deadlock
            await work.run(
                """INSERT INTO shop.line_items
                     (id, organization_id, test, order_id, sku_id, name, quantity, unit_amount)
                   SELECT $3, $1, $2, $4, s.id, s.name, $6, p.amount
                     FROM shop.skus s JOIN shop.prices p ON p.sku_id = s.id WHERE s.id = $5""",
                self._id(), order, sku, quantity,
            )  # fmt: skip
            await work.run(
                """UPDATE shop.stock_items SET quantity = quantity - $4, updated_at = now()
                    WHERE organization_id = $1 AND test = $2 AND sku_id = $3""",
                sku, quantity,
            )  # fmt: skip
        work.once_committed.append(lambda: store.unfinished.append((order, "pending")))

    async def _advance_order(self, work: _Transaction) -> None:
        store = work.store
        if not store.unfinished:
            return
        order, status = store.unfinished.popleft()
        following = "cancelled" if self._random.random() < 0.03 else NEXT_STATUS[status]
        await work.run(
            """UPDATE shop.orders SET status = $4, updated_at = now()
                WHERE organization_id = $1 AND test = $2 AND id = $3""",
            order, following,
        )  # fmt: skip
        if following in NEXT_STATUS:
            store.unfinished.append((order, following))
        else:
            store.finished.append(order)

    async def _delete_order(self, work: _Transaction) -> None:
        order = work.store.finished.popleft()
        for statement in (
            "DELETE FROM shop.line_items WHERE organization_id = $1 AND test = $2 AND order_id = $3",
            "DELETE FROM shop.orders WHERE organization_id = $1 AND test = $2 AND id = $3",
        ):
            await work.run(statement, order)

    async def _restock(self, work: _Transaction) -> None:
        """Restock what is low. Where nothing is, correct one count by -1."""
        await work.run(
            """UPDATE shop.stock_items SET quantity = quantity + CASE WHEN quantity < 60 THEN $4 ELSE -1 END,
                      updated_at = now() WHERE id IN (
                 SELECT id FROM shop.stock_items WHERE organization_id = $1 AND test = $2
                  ORDER BY quantity, id LIMIT $3 FOR UPDATE)""",
            self._random.choice((1, 2, 3)), self._random.randrange(20, 80),
        )  # fmt: skip

    async def _change_prices(self, work: _Transaction) -> None:
        """Sometimes a sale begins, which keeps the old price, or ends. Else a few percent up or down."""
        for sku in sorted(self._random.sample(work.store.skus, self._random.choice((1, 1, 2, 3)))):
            if self._random.random() < 0.3:
                change = """compare_at_amount = CASE WHEN compare_at_amount IS NULL THEN amount END,
                            amount = coalesce(compare_at_amount, round(amount * 0.8, 2) + 0.01)"""
            else:
                change = f"amount = round(amount * {self._random.choice((0.97, 1.03))}, 2) + 0.01"
            await work.run(
                f"""UPDATE shop.prices SET {change}, updated_at = now()
                     WHERE organization_id = $1 AND test = $2 AND sku_id = $3""",
                sku,
            )

    async def _change_customer(self, work: _Transaction) -> None:
        city, country = self._random.choice(CITIES)
        await work.run(
            """UPDATE shop.customers SET city = $4, country_code = $5, updated_at = now()
                WHERE organization_id = $1 AND test = $2 AND id = $3""",
            self._random.choice(work.store.customers or [""]), city, country,
        )  # fmt: skip

    async def _describe_sku(self, work: _Transaction) -> None:
        await work.run(
            """UPDATE shop.skus SET metadata = metadata || jsonb_build_object('rating', $4::int / 10.0),
                      updated_at = now()
                WHERE organization_id = $1 AND test = $2 AND id = $3""",
            self._random.choice(work.store.skus), self._random.randrange(30, 50),
        )  # fmt: skip

    async def _request_anonymization(self, work: _Transaction) -> None:
        await work.run(
            """UPDATE shop.customers SET anonymization_requested_at = now(), updated_at = now()
                WHERE organization_id = $1 AND test = $2 AND id = $3 AND anonymization_requested_at IS NULL""",
            self._random.choice(work.store.customers or [""]),
        )

    async def _cancel_anonymization(self, work: _Transaction) -> None:
        await work.run(
            """UPDATE shop.customers SET anonymization_requested_at = NULL, updated_at = now() WHERE id = (
                 SELECT id FROM shop.customers WHERE organization_id = $1 AND test = $2
                    AND anonymization_requested_at IS NOT NULL ORDER BY id LIMIT 1 FOR UPDATE)"""
        )

    async def _delete_customer(self, work: _Transaction) -> None:
        """Delete a customer who asked for it. The orders stay."""
        customer = await work.connection.fetchval(
            """SELECT id FROM shop.customers WHERE organization_id = $1 AND test = $2
                  AND anonymization_requested_at IS NOT NULL ORDER BY anonymization_requested_at LIMIT 1 FOR UPDATE""",
            *work.store.owner,
        )
        if customer is None:
            return
        for statement in (
            "UPDATE shop.orders SET customer_id = NULL WHERE organization_id = $1 AND test = $2 AND customer_id = $3",
            "DELETE FROM shop.customers WHERE organization_id = $1 AND test = $2 AND id = $3",
        ):
            await work.run(statement, customer)
        if customer in work.store.customers:
            work.store.customers.remove(customer)

    async def _load(self, store: _Store) -> None:
        async with self._pool.acquire() as connection:
            skus, customers, orders = [
                await connection.fetch(f"{query} LIMIT 5000", *store.owner)
                for query in (
                    "SELECT id FROM shop.skus WHERE organization_id = $1 AND test = $2 ORDER BY id",
                    "SELECT id FROM shop.customers WHERE organization_id = $1 AND test = $2 ORDER BY id",
                    "SELECT id, status FROM shop.orders WHERE organization_id = $1 AND test = $2 ORDER BY number",
                )
            ]
        store.skus[:] = [row["id"] for row in skus]
        store.customers[:] = [row["id"] for row in customers]
        store.unfinished.extend((row["id"], row["status"]) for row in orders if row["status"] in NEXT_STATUS)
        store.finished.extend(row["id"] for row in orders if row["status"] not in NEXT_STATUS)

    def _id(self) -> str:
        return "".join(self._random.choices(string.ascii_letters, k=10))


class _Store:
    """One environment of one tenant, with what the shop knows of its rows."""

    def __init__(self, tenant: Tenant, test: bool) -> None:
        self.tenant = tenant
        self.test = test
        self.owner = (tenant.id, test)
        self.skus: list[str] = []
        self.customers: list[str] = []
        self.unfinished: deque[tuple[str, str]] = deque()  # (order, status)
        self.finished: deque[str] = deque()


class _Transaction:
    """An open transaction. Statements get the organization's id as $1 and the environment as $2."""

    def __init__(self, connection: AnyConnection, store: _Store) -> None:
        self.connection = connection
        self.store = store
        self.rows = 0
        self.once_committed: list[Callable[[], None]] = []

    async def run(self, statement: str, *arguments: Any) -> None:
        tag = await self.connection.execute(statement, *self.store.owner, *arguments, timeout=STATEMENT_WITHIN)
        self.rows += int(tag.rsplit(" ", 1)[1])


_Action = Callable[[_Transaction], Awaitable[None]]
