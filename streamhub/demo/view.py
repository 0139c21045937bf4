"""The demo's view: counts, rate, latency, and the newest events of history.

A terminal gets a view that is redrawn four times a second, anything else plain lines.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter, deque
from typing import Any, NamedTuple

import asyncpg
import orjson
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from streamhub.backoff import rest
from streamhub.core import frames, ids
from streamhub.core.summary import short
from streamhub.demo.monitor import Monitor
from streamhub.history import head, newest
from streamhub.postgres.connections import DATABASE_ERRORS, Pool

POLL_EVERY = 0.25  # seconds
POLL_LIMIT = 2_000  # events a query
RATE_OVER = 5.0  # seconds
LINE_EVERY = 2.0  # seconds, between two plain lines
EVENTS_SHOWN = 12
FIXED_LINES = 14  # of the view, without the events
WIDE = 100  # columns of the terminal


class Seen(NamedTuple):
    """An event as a line. `detail`: what changed."""

    time: str
    slug: str
    type: str
    test: bool
    resource_id: str
    detail: str


class Watch:
    """Follows history for all organizations."""

    def __init__(self, pool: Pool, monitor: Monitor) -> None:
        self.monitor = monitor
        self.total = 0
        self.by_slug: Counter[tuple[str, bool]] = Counter()
        self.by_event: Counter[str] = Counter()
        self.newest: deque[Seen] = deque(maxlen=EVENTS_SHOWN)
        self.first = asyncio.Event()
        self._pool = pool
        self._last_id = ids.MIN_ID
        self._recent: deque[tuple[float, int]] = deque()

    async def begin(self) -> None:
        """Start at the newest event."""
        self._last_id = await head.read(self._pool)

    async def run(self) -> None:
        while True:
            try:
                rows = await newest.of_all(self._pool, self._last_id, POLL_LIMIT)
            except DATABASE_ERRORS as error:
                logging.getLogger(__name__).warning("cannot read history, retrying: %s", error)
                rows = []
            self._note(rows)
            if len(rows) < POLL_LIMIT:
                await rest(POLL_EVERY)

    def rate(self) -> float:
        """Events a second, over the last RATE_OVER seconds."""
        since = time.monotonic() - RATE_OVER
        while self._recent and self._recent[0][0] < since:
            self._recent.popleft()
        return sum(count for _, count in self._recent) / RATE_OVER

    def _note(self, rows: list[asyncpg.Record]) -> None:
        if not rows:
            return
        self._last_id = rows[-1]["id"]
        self.total += len(rows)
        self._recent.append((time.monotonic(), len(rows)))
        for row in rows:
            self.by_slug[row["slug"], row["test"]] += 1
            self.by_event[frames.event_in(row["frame"])] += 1
        self.newest.extend(_seen(row) for row in rows[-EVENTS_SHOWN:])
        self.first.set()


async def show_live(watch: Watch, console: Console, warnings: deque[str]) -> None:
    """Redraw until cancelled."""
    with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
        while True:
            # In a thread: on the event loop, drawing would add to the latencies.
            await asyncio.to_thread(lambda: live.update(_picture(watch, warnings, console), refresh=True))
            await asyncio.sleep(POLL_EVERY)


async def show_lines(watch: Watch, console: Console) -> None:
    """The first events one by one, then a line every two seconds, until cancelled."""
    await watch.first.wait()
    for seen in list(watch.newest):
        _print(console, f"event  {_plain(seen)}")
    while True:
        await asyncio.sleep(LINE_EVERY)
        newest = watch.newest[-1]
        _print(
            console, f"{watch.total} events, {watch.rate():.0f}/s, {_latency(watch.monitor)}; newest: {_plain(newest)}"
        )


def _picture(watch: Watch, warnings: deque[str], console: Console) -> RenderableType:
    counts = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0), header_style="bold")
    counts.add_column("organization", min_width=18)
    counts.add_column("live events", justify="right")
    counts.add_column("test events", justify="right")
    for slug in sorted({slug for slug, _ in watch.by_slug}):
        counts.add_row(slug, f"{watch.by_slug[slug, False]:,}", f"{watch.by_slug[slug, True]:,}")
    shown = max(3, min(EVENTS_SHOWN, console.height - FIXED_LINES))
    newest = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold", expand=True)
    columns = [each for each in _COLUMNS if console.width >= WIDE or each[0] not in _WHERE_WIDE]
    for name, options in columns:
        newest.add_column(name, no_wrap=True, overflow="ellipsis", **options)
    for seen in list(watch.newest)[-shown:]:
        style = "dim" if seen.test else ""
        cells = {
            "time": seen.time,
            "organization": seen.slug,
            "env": "test" if seen.test else "live",
            "type": Text(seen.type, _color(seen.type)),
            "id": seen.resource_id,
            "what changed": seen.detail,
        }
        newest.add_row(*(cells[name] for name, _ in columns), style=style)
    events = "  ".join(f"{name} {count:,}" for name, count in watch.by_event.most_common())
    lines: list[RenderableType] = [
        Text(""),
        Text.assemble(
            (f"{watch.total:,}", "bold"), " events in this run, ", (f"{watch.rate():.0f}", "bold"), " a second"
        ),
        Text(f"commit to client ({watch.monitor.received:,} events on a live stream): {_latency(watch.monitor)}"),
        Text(events, "dim"),
        Text(""),
        counts,
        Text(""),
        newest,
        *(Text(warning, "yellow", no_wrap=True, overflow="ellipsis") for warning in list(warnings)),
        Text("Ctrl-C stops everything and keeps the data.", "dim"),
    ]
    return Group(*lines)


_COLUMNS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("time", {"width": 12}),
    ("organization", {"width": 16}),
    ("env", {"width": 4}),
    ("type", {"width": 24}),
    ("id", {"width": 10}),
    ("what changed", {"ratio": 1}),
)
_WHERE_WIDE = ("env", "id")  # in 80 columns they would leave no room for what changed


def _seen(row: asyncpg.Record) -> Seen:
    data = orjson.loads(frames.data_of(row["frame"]))
    when = ids.datetime_of(ids.milliseconds(row["id"])).astimezone()
    return Seen(
        f"{when:%H:%M:%S}.{when.microsecond // 1000:03}",
        row["slug"],
        row["type"],
        row["test"],
        row["resource_id"] or "",
        _change(data),
    )


def _change(data: dict[str, Any]) -> str:
    """What changed, on a line."""
    delta = {name: value for name, value in (data["delta"] or {}).items() if not name.endswith("_at")}
    if data["event"] == "update" and delta:
        return ", ".join(f"{name} {short(value['from'])} → {short(value['to'])}" for name, value in delta.items())
    resource = data["resource"] or {}
    values = [
        resource[name] for name in ("name", "code", "amount", "status", "total_amount", "quantity") if name in resource
    ]
    return "  ".join(short(value) for value in values)


def _latency(monitor: Monitor) -> str:
    if monitor.trouble is not None:
        return f"not connected ({monitor.trouble})"
    latency = monitor.latency()
    return "…" if latency is None else f"p50 {latency[0] * 1000:.1f} ms, p99 {latency[1] * 1000:.1f} ms"


def _plain(seen: Seen) -> str:
    environment = "test" if seen.test else "live"
    return f"{seen.time} {seen.slug} {environment} {seen.type} {seen.resource_id} {seen.detail}".rstrip()


def _print(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _color(type_: str) -> str:
    event = type_.rpartition(".")[2]
    return {"create": "green", "destroy": "red", "update": "cyan"}.get(event, "magenta")
