"""The demo from start to end: database, shop, hub, the lines to paste, the view, and the check at the end of `--for`.

A live stream has one consumer. So the demo consumes the stream of demo-monitor, and prints curl lines for others.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from shlex import quote
from typing import Any

import uvloop
from rich.console import Console

from streamhub import capture, organizations
from streamhub.cancellation import ended
from streamhub.capture import CaptureSpec
from streamhub.config import Settings, load
from streamhub.core import ids
from streamhub.demo.catalog import ACME, MONITOR, NORTHWIND, TENANTS
from streamhub.demo.monitor import Monitor
from streamhub.demo.shop import TABLES, Shop
from streamhub.demo.view import Watch, show_lines, show_live
from streamhub.embedded import EmbeddedPostgres, check_free
from streamhub.errors import UserError
from streamhub.history.newest import newest_live_id
from streamhub.organizations import Organization
from streamhub.postgres.connections import Pool
from streamhub.postgres.failures import connect
from streamhub.runtime import logs
from streamhub.runtime.process import (
    Stopped,
    check_ports,
    connections,
    embedded_server,
    prepare,
    running_hub,
    stop_on_signals,
    unless_stopped,
)
from streamhub.tokens import DevelopmentKey, claims_for

TOKEN_TTL = timedelta(hours=24)
SCOPES = ("events:read", "events:write", "webhooks:manage", "operations:read")
FREE_WITHIN = 15.0  # seconds; the stream of a demo that was killed stays taken for up to 11
WARNINGS_SHOWN = 3
PUBLISHED_WITHIN = 5.0  # seconds, for the first event of the shop
UNWATCHED_FOR = 20.0  # seconds that a demo without a terminal runs


def run(overrides: Mapping[str, object], *, rate: float, seconds: float | None) -> bool:
    """Run the demo until a signal, or for `seconds` and then check; False where the check failed. Raises UserError.

    `overrides` win over the environment's settings. `rate` is in commits a second; 0: no sample traffic. Without a
    terminal `seconds` is UNWATCHED_FOR unless given.
    """
    settings = load(**overrides).model_copy(
        update={"database_url": None, "source_urls": {}, "signing_key_file": None, "drain_time": timedelta(0)}
    )
    console = Console()
    if seconds is None and not console.is_terminal:
        seconds = UNWATCHED_FOR
    check_free(settings.data_dir)  # first: what runs there has the port as well
    check_ports(settings, "demo")
    return uvloop.run(Demo(settings, console, rate).run(seconds))


class Demo:
    """`rate` is in commits a second; 0: no sample traffic."""

    def __init__(self, settings: Settings, console: Console, rate: float) -> None:
        self._settings = settings
        self._console = console
        self._rate = rate
        self._redrawn = console.is_terminal and not console.is_dumb_terminal
        self._warnings: deque[str] = deque(maxlen=WARNINGS_SHOWN)

    async def run(self, seconds: float | None) -> bool:
        """Run until a signal, or for `seconds` and then check; False where the check failed."""
        stop = stop_on_signals()
        self._configure_logs()
        self._say(f"Starting PostgreSQL and the hub in {self._settings.data_dir} …")
        try:
            result = await unless_stopped(stop, self._run(stop, seconds))
        except Stopped:
            result = None
        if result is None:
            self._say(f"\nStopped. The data stays in {self._settings.data_dir} for the next start.")
        return result is not False

    async def _run(self, stop: asyncio.Event, seconds: float | None) -> bool | None:
        """Whether the check is passed; None where it was stopped before."""
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(embedded_server(self._settings, report=self._say))
            pool = await stack.enter_async_context(connections(server.url, "streamhub demo", 12))
            # The hub stops before its readers, so that it drains the stream, which is then free for the next start.
            keep = await stack.enter_async_context(background())
            sources = await prepare(self._settings, server.url)
            hub = await stack.enter_async_context(running_hub(self._settings, server.url, sources))
            registered = await _register(pool)
            key = DevelopmentKey.load_or_create(self._settings.data_dir / "signing_key.pem")
            monitor = Monitor(
                hub.server.url, registered[MONITOR.id], lambda test: self._token(key, registered[MONITOR.id], test=test)
            )
            shop = Shop(pool, monitor.committed)
            await shop.create_tables()
            await _capture(server.url)
            watch = Watch(pool, monitor)
            await watch.begin()
            keep(watch.run())
            await shop.open()
            keep(monitor.run())
            self._print_lines(server, hub.server.url, self._token(key, registered[ACME.id]), await _window(pool))
            show = await stack.enter_async_context(background())
            show(self._show(watch))
            async with background() as write:
                if self._rate:
                    write(shop.run(self._rate))
                if not await _ends_by_time(hub.serve_until(stop), seconds, monitor.opened):
                    return None
            if not self._rate:
                await shop.write_once(MONITOR)
            ok, result = await monitor.check()
        self._say(f"{'checked' if ok else 'FAILED'}: {result}")
        return ok

    def _show(self, watch: Watch) -> Coroutine[Any, Any, None]:
        if self._redrawn:
            return show_live(watch, self._console, self._warnings)
        return show_lines(watch, self._console)

    def _configure_logs(self) -> None:
        """At a terminal the view shows the newest warnings: log lines would break it."""
        if self._redrawn:
            logs.install(_Collector(self._warnings), logging.WARNING)
        else:
            logs.configure(self._settings.log_format, logging.WARNING)

    def _token(self, key: DevelopmentKey, organization: Organization, *, test: bool = False) -> str:
        now, audience = datetime.now(UTC), self._settings.jwt_audience
        return key.sign(claims_for(organization, now=now, ttl=TOKEN_TTL, test=test, scope=SCOPES, audience=audience))

    def _print_lines(self, server: EmbeddedPostgres, url: str, token: str, window: tuple[datetime, datetime]) -> None:
        window_query = "date_from={:%Y-%m-%dT%H:%M:%SZ}&date_to={:%Y-%m-%dT%H:%M:%SZ}".format(*window)
        program = sys.argv[0] if Path(sys.argv[0]).name == "streamhub" else f"{sys.executable} -m streamhub"
        of_demo = f"--data-dir {quote(str(self._settings.data_dir))}"
        token_for = f"{program} token {of_demo} --org"
        hand = f"UPDATE shop.prices SET amount = amount + 1 WHERE organization_id = '{ACME.id}' AND NOT test"
        for heading, line in (
            (
                "Its events as they happen, in a second terminal:",
                f"{program} listen {of_demo} --url {url} --org {ACME.slug}",
            ),
            (f"A token for {ACME.slug}, good for a day:", f"TOKEN={token}"),
            ("The dashboard, which asks for that token:", f"{url}/-/dashboard"),
            (
                "Its live stream (one consumer at a time):",
                f'curl -N -H "Authorization: Bearer $TOKEN" {url}/{ACME.slug}',
            ),
            (
                "A replay of its events:",
                f'curl -N -H "Authorization: Bearer $TOKEN" "{url}/{ACME.slug}/replay?{window_query}"',
            ),
            ("Write to the shop by hand:", f'{quote(str(server.bin_dir / "psql"))} {server.url} -c "{hand}"'),
            (
                f"A token for {NORTHWIND.slug}:",
                f"TOKEN=$({token_for} {NORTHWIND.slug} --scope {','.join(SCOPES)})",
            ),
        ):
            self._say(f"\n{heading}", style="bold")
            self._say(f"  {line}")
        self._say("")

    def _say(self, text: str, style: str | None = None) -> None:
        self._console.print(text, style=style, markup=False, highlight=False, soft_wrap=True)


class _Collector(logging.Handler):
    def __init__(self, lines: deque[str]) -> None:
        super().__init__()
        self._lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.append(f"{record.levelname.lower()}: {record.getMessage()}")


@asynccontextmanager
async def background() -> AsyncIterator[Callable[[Coroutine[Any, Any, None]], object]]:
    """Yields a function that starts a coroutine. At the end they are cancelled, and an error of one is raised."""
    tasks: list[asyncio.Task[None]] = []
    try:
        yield lambda work: tasks.append(asyncio.create_task(work))
    finally:
        await ended(*tasks)
        for task in tasks:
            if not task.cancelled():
                task.result()


async def _ends_by_time(waiting: Coroutine[Any, Any, None], seconds: float | None, opened: asyncio.Event) -> bool:
    """False where `waiting` ended first. The seconds begin when the checked stream is open."""
    task = asyncio.create_task(waiting)
    opening = asyncio.create_task(opened.wait())
    await asyncio.wait({task, opening}, timeout=FREE_WITHIN, return_when=asyncio.FIRST_COMPLETED)
    opening.cancel()
    try:
        await asyncio.wait_for(task, seconds)
    except TimeoutError:
        return True
    return False


async def _register(pool: Pool) -> dict[str, Organization]:
    async with pool.acquire() as connection:
        return {
            tenant.id: await organizations.with_id(connection, tenant.id)
            or await organizations.add(connection, tenant.slug, tenant.id)
            for tenant in TENANTS
        }


async def _capture(url: str) -> None:
    """As `streamhub capture add`, for every table of the shop."""
    connection = await connect(url)
    try:
        for table in TABLES:
            customers = table == "customers"
            await capture.add(
                connection,
                CaptureSpec(
                    table=f"shop.{table}",
                    resource_type=table,
                    organization_column="organization_id",
                    test_column="test",
                    exclude=("password_digest",) if customers else (),
                    anonymization_column="anonymization_requested_at" if customers else None,
                ),
            )
    finally:
        await connection.close()


async def _window(pool: Pool) -> tuple[datetime, datetime]:
    """An hour in which the organization of the printed lines has events."""
    give_up = asyncio.get_running_loop().time() + PUBLISHED_WITHIN
    while (newest := await newest_live_id(pool, ACME.id)) is None:
        if asyncio.get_running_loop().time() > give_up:
            raise UserError(
                f"the shop's first event was not published within {PUBLISHED_WITHIN:.0f} s: streamhub doctor"
            )
        await asyncio.sleep(0.05)
    begin = ids.datetime_of(ids.milliseconds(newest)).replace(microsecond=0) - timedelta(minutes=5)
    return begin, begin + timedelta(hours=1)
