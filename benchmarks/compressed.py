"""One replay of 300,000 events of a shop, as it is, as zstd and as gzip, in turns: bytes, time, and processor time
of the gateway and of PostgreSQL.

The events are of five kinds, with ids, names, amounts and times of their own: what repeats is what repeats in the
events of a real shop. The client counts the bytes, and does not decode them.
"""

import asyncio
import random
import statistics
import string
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import orjson

from benchmarks.replay import PER_MILLISECOND, fill, read_replay, serving
from benchmarks.stage import Result, Stage, processor_seconds, spread
from streamhub.core import ids
from streamhub.core.events import StoredEvent
from streamhub.core.window import timestamp
from streamhub.demo.catalog import ACME, NORTHWIND
from streamhub.history.rows import values

EVENTS = 300_000
RUNS = 3
CODINGS = ("identity", "zstd", "gzip")
NAMES = (
    "Ada",
    "Grace",
    "Linus",
    "Edsger",
    "Barbara",
    "Donald",
    "Alan",
    "Tim",
    "Margaret",
    "Katherine",
    "Radia",
    "Hedy",
)
SURNAMES = ("Lovelace", "Hopper", "Dijkstra", "Liskov", "Knuth", "Turing", "Lee", "Hamilton", "Perlman", "Lamarr")
CITIES = ("Berlin", "Paris", "Wien", "Roma", "Madrid", "Lisboa", "Oslo", "Praha", "Bruxelles", "Dublin", "Warszawa")
GOODS = ACME.goods + NORTHWIND.goods


class Shop:
    """What a shop's tables hold, the same in each run."""

    def __init__(self) -> None:
        self.chance = random.Random(7)
        self.skus, self.orders, self.customers = ([self.id() for _ in range(n)] for n in (500, 3_000, 1_500))

    def id(self) -> str:
        return "".join(self.chance.choices(string.ascii_letters + string.digits, k=10))

    def row(self, n: int, when: str) -> tuple[str, dict[str, Any]]:
        """(resource type, row)."""
        chance, whose = self.chance, {"organization_id": "org_1", "test": False}
        code, name, cents = chance.choice(GOODS)
        kind = chance.choices(("orders", "line_items", "stock_items", "customers", "skus"), (30, 25, 20, 15, 10))[0]
        if kind == "orders":
            return kind, {
                "id": chance.choice(self.orders), **whose, "number": str(1_000 + n // 3),
                "customer_id": chance.choice(self.customers),
                "status": chance.choice(("draft", "placed", "approved", "cancelled")), "currency_code": "EUR",
                "total_amount": f"{chance.randrange(100, 90_000) / 100:.2f}", "placed_at": when, "updated_at": when,
            }  # fmt: skip
        if kind == "line_items":
            return kind, {
                "id": self.id(), **whose, "order_id": chance.choice(self.orders), "sku_id": chance.choice(self.skus),
                "name": name, "quantity": chance.randrange(1, 9), "unit_amount": f"{cents / 100:.2f}",
            }  # fmt: skip
        if kind == "stock_items":
            return kind, {
                "id": self.id(), **whose, "sku_id": chance.choice(self.skus),
                "warehouse": chance.choice(("EU-1", "EU-2", "US-1")), "quantity": chance.randrange(500),
                "updated_at": when,
            }  # fmt: skip
        if kind == "customers":
            first, last = chance.choice(NAMES), chance.choice(SURNAMES)
            return kind, {
                "id": chance.choice(self.customers), **whose, "name": f"{first} {last}",
                "email": f"{first}.{last}{chance.randrange(999)}@example.com".lower(), "city": chance.choice(CITIES),
                "country_code": "DE", "password_digest": "[REDACTED]", "anonymization_requested_at": None,
                "created_at": when, "updated_at": when,
            }  # fmt: skip
        return kind, {
            "id": chance.choice(self.skus), **whose, "code": code, "name": name,
            "tags": chance.sample(("new", "sale", "eco", "kids", "outlet"), 2),
            "metadata": {"supplier": self.id()[:6], "weight": chance.randrange(3_000)},
            "created_at": when, "updated_at": when,
        }  # fmt: skip


def rows(count: int, start_ms: int) -> Iterator[tuple[Any, ...]]:
    """Rows of history, three events a transaction."""
    shop = Shop()
    for n in range(count):
        ms = start_ms + n // PER_MILLISECOND
        id_ = ids.event_id(ms, n % PER_MILLISECOND)
        when = f"{timestamp(ms)[:-1]}{shop.chance.randrange(1_000):03}Z"
        kind, row = shop.row(n, when)
        event = shop.chance.choice(("create", "update", "update", "update"))
        if event == "create":
            delta = {name: {"from": None, "to": value} for name, value in row.items() if value is not None}
        else:
            before = {"status": "pending", "updated_at": f"{when[:-4]}000Z"}
            delta = {name: {"from": before[name], "to": row[name]} for name in before if name in row}
        data = {
            "id": id_, "type": f"{kind}.{event}", "event": event, "resource_type": kind, "resource_id": row["id"],
            "organization": {"id": "org_1", "slug": "my-org"}, "test": False, "created_at": when,
            "transaction_id": str(7_000 + n // 3), "resource": row, "delta": delta,
            "who": {"application": shop.chance.choice(("importer", "checkout", "backoffice"))},
        }  # fmt: skip
        frame = b"event: %b\nid: %b\ndata: %b\n\n" % (event.encode(), id_.encode(), orjson.dumps(data))
        yield values(StoredEvent(1, id_, False, f"{kind}.{event}", kind, row["id"], frame))


def times(used: Mapping[str, Sequence[float]], coding: str) -> str:
    """As a multiple of what it takes without a coding."""
    plain = statistics.median(used["identity"])
    return spread([each / plain for each in used[coding]], 2)


async def measure(stage: Stage) -> list[Result]:
    url = await stage.database(sample=False)
    start_ms, end_ms = await fill(url, EVENTS, rows)
    path = f"/my-org/replay?date_from={timestamp(start_ms)}&date_to={timestamp(end_ms)}"
    sizes: dict[str, int] = {}
    rates: dict[str, list[float]] = {coding: [] for coding in CODINGS}
    by_gateway: dict[str, list[float]] = {coding: [] for coding in CODINGS}
    by_both: dict[str, list[float]] = {coding: [] for coding in CODINGS}
    async with serving(stage, url) as gateway:
        for run in range(RUNS + 1):
            for coding in CODINGS:
                token = stage.token("org_1", "my-org")
                before, postgres_before = processor_seconds(gateway.pid), stage.postgres_seconds()
                seconds, sizes[coding], last = await asyncio.to_thread(read_replay, gateway.port, path, token, coding)
                if coding == "identity" and f'"events":{EVENTS}'.encode() not in last:
                    raise SystemExit(f"not every event came: {last!r}")
                if run:  # the first run warms up
                    rates[coding].append(EVENTS / seconds)
                    by_gateway[coding].append(processor_seconds(gateway.pid) - before)
                    by_both[coding].append(by_gateway[coding][-1] + stage.postgres_seconds() - postgres_before)
    results = [
        Result(
            f"one replay of {EVENTS:,} events of a shop, {sizes['identity'] / EVENTS:.0f} bytes each, events/s",
            spread(rates["identity"]),
            "",
        )
    ]
    for coding in CODINGS[1:]:
        share = sizes[coding] / sizes["identity"]
        wanted = ("a tenth", "under 2") if coding == "zstd" else ("", "")
        results += [
            Result(f"  as {coding}: bytes on the wire, of those without", f"{share:.3f}", wanted[0]),
            Result("  … processor time of both servers, times that without", times(by_both, coding), wanted[1]),
            Result("  … of the gateway alone", times(by_gateway, coding), ""),
            Result("  … events/s", spread(rates[coding]), ""),
        ]
    return results
