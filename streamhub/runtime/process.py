"""A hub in one process: migrates its databases, runs the relay and the gateway, and stops them."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple, TypeVar

from streamhub.backoff import Backoff, jittered
from streamhub.cancellation import ended
from streamhub.config import PREFIX, Settings
from streamhub.embedded import EmbeddedPostgres
from streamhub.errors import UserError
from streamhub.extras import install
from streamhub.gateway.server import RunningGateway, authenticator_of, serve
from streamhub.history.plans import INDEX_ORDER
from streamhub.metrics import Metrics
from streamhub.postgres.connections import (
    DATABASE_ERRORS,
    Connection,
    Pool,
    create_pool,
    is_pooled_by_transaction,
    passes,
)
from streamhub.postgres.failures import cannot_connect, connect, explain
from streamhub.postgres.migrate import migrate_hub, migrate_source
from streamhub.postgres.session_marks import Mark, is_there, mark
from streamhub.relay import Publisher, Relay, Source
from streamhub.runtime import memory
from streamhub.tail import Tail
from streamhub.tail.postgres import PostgresTail
from streamhub.tokens import ISSUER, DevelopmentKey
from streamhub.urls import shown
from streamhub.webhooks import dispatcher
from streamhub.webhooks.addresses import Addresses

log = logging.getLogger(__name__)

T = TypeVar("T")

HUB_CONNECTIONS = 24  # a process, and up to 5 more of its tail and its relay
OTHERS_OF_PROCESS = 5 + dispatcher.CONNECTIONS + 1
OTHER_CONNECTIONS = 175  # of an embedded server: the leading relay's, commands, and an application
DATABASE_COMES_WITHIN = 30.0  # seconds; machines that start together do not start in order
FIRST_PAUSE, LONGEST_PAUSE = 0.5, 3.0  # seconds between two attempts to connect
CHECK_EVERY = 0.5  # seconds
RESTART_PAUSE = 3.0  # seconds after the embedded PostgreSQL did not start
STOPS_WITHIN = 0.75  # seconds, for the relay; without streams the whole stop takes 2 s, even if no database answers
CLOSES_WITHIN = 0.3  # seconds, for a pool that nothing uses any more


class Hub(NamedTuple):
    """`relaying` ends only by an error that a retry does not fix."""

    server: RunningGateway
    relaying: asyncio.Task[None] | None

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Returns when `stop` is set. Raises the error that ended the relay."""
        waiting: list[asyncio.Task[object]] = [asyncio.create_task(stop.wait())]
        if self.relaying is not None:
            waiting.append(self.relaying)
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        waiting[0].cancel()
        if self.relaying is not None and self.relaying.done():
            self.relaying.result()


@asynccontextmanager
async def running_hub(
    settings: Settings, hub_url: str, sources: Sequence[Source], *, reuse_port: bool = False
) -> AsyncIterator[Hub]:
    """Run the roles of these settings until the block ends. `sources` are what `prepare` returned. Raises UserError.

    `reuse_port`: several processes of this machine listen on the port and share its connections.
    """
    settings.require_verifiable_tokens()
    memory.tune()
    development_key = None
    if settings.development_key_file is not None:
        key = await asyncio.to_thread(DevelopmentKey.load_or_create, settings.development_key_file)
        development_key = (ISSUER, key.public_pem)
    async with AsyncExitStack() as stack:
        pool = await stack.enter_async_context(
            connections(hub_url, "streamhub gateway", HUB_CONNECTIONS, reads_pages=True)
        )
        tail = _tail(settings, hub_url, pool)
        await tail.start()
        stack.push_async_callback(tail.stop)
        relaying = None
        metrics = Metrics()
        if "relay" in settings.roles:
            relay = Relay(
                hub_url,
                sources,
                announce=tail.announce,
                max_event_bytes=settings.max_event_bytes,
                retention=settings.retention,
                observe=metrics.published,
                failed=metrics.relay_failed,
                publisher=_publisher(settings, metrics) if settings.kafka_bootstrap_servers else None,
            )
            stop_relay = asyncio.Event()
            relaying = asyncio.create_task(relay.run(stop_relay), name="relay")
            stack.push_async_callback(asyncio.wait, {relaying}, timeout=STOPS_WITHIN)
            stack.callback(stop_relay.set)
        server = await stack.enter_async_context(
            serve(
                settings,
                pool,
                tail,
                authenticator_of(settings, development_key),
                reuse_port=reuse_port,
                metrics=metrics,
                sources={source.name: source.dsn for source in sources if not source.in_hub},
            )
        )
        if "webhooks" in settings.roles:
            await stack.enter_async_context(_dispatcher(settings, hub_url, server, metrics))
        yield Hub(server, relaying)


@asynccontextmanager
async def _dispatcher(
    settings: Settings, hub_url: str, server: RunningGateway, metrics: Metrics
) -> AsyncIterator[None]:
    options = dispatcher.Options(
        [pause.total_seconds() for pause in settings.webhook_schedule],
        Addresses.of(settings),
        settings.webhook_proxy_url,
        settings.smtp_url,
    )
    async with (
        connections(hub_url, "streamhub webhooks", dispatcher.CONNECTIONS) as pool,
        dispatcher.Dispatcher(hub_url, pool, server.gateway.node, metrics, options),
    ):
        metrics.watch_pool("webhooks", pool)
        yield


def _tail(settings: Settings, hub_url: str, pool: Pool) -> Tail:
    if not settings.kafka_bootstrap_servers:
        return PostgresTail(hub_url, pool)
    try:
        from streamhub.kafka.brokers import Brokers  # noqa: PLC0415 - an extra
        from streamhub.kafka.tail import KafkaTail  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _not_installed(error) from None
    return KafkaTail(pool, Brokers.of(settings), settings.kafka_topic)


def _publisher(settings: Settings, metrics: Metrics) -> Publisher:
    try:
        from streamhub.kafka.brokers import Brokers  # noqa: PLC0415 - an extra
        from streamhub.kafka.publisher import KafkaPublisher  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise _not_installed(error) from None
    return KafkaPublisher(
        Brokers.of(settings),
        settings.kafka_topic,
        max_event_bytes=settings.max_event_bytes,
        sent=metrics.sent_to_kafka,
        failed=metrics.kafka_failed,
    )


def _not_installed(error: ImportError) -> UserError:
    missing = str(error.name).partition(".")[0]
    return UserError(f"{PREFIX}KAFKA_BOOTSTRAP_SERVERS needs {missing}, which is not installed: {install('kafka')}")


@asynccontextmanager
async def connections(url: str, name: str, most: int, *, reads_pages: bool = False) -> AsyncIterator[Pool]:
    """As `create_pool`. At the end it waits CLOSES_WITHIN for its connections, then drops them."""
    pool = await create_pool(url, name, most, command_timeout=30, server_settings=INDEX_ORDER, reads_pages=reads_pages)
    try:
        yield pool
    finally:
        try:
            await asyncio.wait_for(pool.close(), CLOSES_WITHIN)
        except TimeoutError:
            pool.terminate()


async def prepare(settings: Settings, hub_url: str) -> list[Source]:
    """Migrate all databases. Returns the sources to relay, the hub's own database first.

    The hub's database must answer. A source that does not is left to the relay, which retries. Raises UserError.
    """
    async with AsyncExitStack() as stack:
        hub = await _connect_with_retries(hub_url)
        stack.push_async_callback(hub.close)
        for schema, names in (("hub", await migrate_hub(hub)), ("source", await migrate_source(hub))):
            for name in names:
                log.info("applied migration %s/%s", schema, name)
        sources = [Source("hub", hub_url, in_hub=True)]
        # A session that sees another connection's mark is connected to the same database.
        of_hub = await mark(hub)
        of_sources: list[Mark] = []
        for name, url in settings.source_urls.items():
            distinct = True
            try:
                await refuse_transaction_pooling(url, f"source {name} of {PREFIX}SOURCE_URLS")
                source = await connect(url)
                stack.push_async_callback(source.close)
                if await is_there(source, of_hub):
                    log.info("source %s is the hub's own database; it is relayed as source hub", name)
                    continue
                distinct = not any([await is_there(source, marked) for marked in of_sources])
                of_sources.append(await mark(source))
                for migration in await migrate_source(source):
                    log.info("applied migration source/%s to source %s", migration, name)
            except TransactionPoolingError:
                raise
            except (UserError, *DATABASE_ERRORS) as error:
                log.warning("source %s was not migrated, the relay retries: %s", name, explain(error))
            if not distinct:
                raise UserError(
                    f"STREAMHUB_SOURCE_URLS names the database of {name!r} under another name too: remove one"
                )
            sources.append(Source(name, url, in_hub=False))
        return sources


async def _connect_with_retries(url: str) -> Connection:
    """Retries with back-off for DATABASE_COMES_WITHIN. Raises UserError at once where a retry cannot help."""
    loop = asyncio.get_running_loop()
    give_up = loop.time() + DATABASE_COMES_WITHIN
    pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE)
    while True:
        try:
            await refuse_transaction_pooling(url, f"{PREFIX}DATABASE_URL")
            return await connect(url)
        except UserError as error:
            if error.__cause__ is None or not passes(error.__cause__) or loop.time() > give_up:
                raise
            wait = pause.next()
            log.warning("%s; retrying in %.1f s", error, wait)
        await asyncio.sleep(wait)


class TransactionPoolingError(UserError):
    """A pooler gives each transaction another connection to the server."""


async def refuse_transaction_pooling(url: str, setting: str) -> None:
    """Raises UserError where a pooler pools by transaction, and where no server answers."""
    try:
        pooled = await is_pooled_by_transaction(url)
    except DATABASE_ERRORS as error:
        raise cannot_connect(url, error) from error
    if pooled:
        raise TransactionPoolingError(
            f"{setting} is {shown(url)}, where a pooler gives each transaction another connection to the server, and "
            "Streamhub needs whole sessions: set pool_mode = session for this database, or name the server itself"
        )


@asynccontextmanager
async def hub_database(settings: Settings, workers: int = 1) -> AsyncIterator[str]:
    """The URL of the hub's database. Without one in the settings it runs an embedded server, sized for `workers`."""
    if settings.database_url is not None:
        log.info("the hub's database is %s", shown(settings.database_url))
        yield settings.database_url
        return
    async with embedded_server(settings, workers) as server:
        log.info("embedded PostgreSQL runs in %s", server.base)
        yield server.url


@asynccontextmanager
async def embedded_server(
    settings: Settings, workers: int = 1, report: Callable[[str], None] = log.info
) -> AsyncIterator[EmbeddedPostgres]:
    """The embedded PostgreSQL until the block ends. When it dies it is started again on the same port."""
    connections = {"max_connections": OTHER_CONNECTIONS + workers * (HUB_CONNECTIONS + OTHERS_OF_PROCESS)}
    async with EmbeddedPostgres(settings.data_dir, connections, report=report) as server:
        keeping = asyncio.create_task(_keep_running(server))
        try:
            yield server
        finally:
            await ended(keeping)


async def _keep_running(server: EmbeddedPostgres) -> None:
    while True:
        await asyncio.sleep(CHECK_EVERY)
        if server.pid is None:
            log.error("the embedded PostgreSQL died; starting it again")
            try:
                await server.start_async()
            except UserError as error:
                wait = jittered(RESTART_PAUSE)
                log.error("%s; retrying in %.1f s", error, wait)
                await asyncio.sleep(wait)


def stop_on_signals(*, second_ends: bool = True) -> asyncio.Event:
    """An event that the first SIGINT, SIGTERM or SIGHUP sets. `second_ends`: a second one ends the process at once."""
    stop = asyncio.Event()

    def on_signal(number: signal.Signals) -> None:
        if stop.is_set():
            if second_ends:
                os._exit(128 + number)
            return
        log.info("%s: stopping", number.name)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, on_signal, number)
    return stop


async def unless_stopped(stop: asyncio.Event, starting: Coroutine[Any, Any, T]) -> T:
    """The result of `starting`. When `stop` is set first, it is cancelled and Stopped is raised."""
    task = asyncio.create_task(starting)
    stopped = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, stopped}, return_when=asyncio.FIRST_COMPLETED)
        if task.done():
            return task.result()
        raise Stopped
    finally:
        await ended(stopped, task)  # where it fails just when it is stopped, nothing is left to be told


class Stopped(Exception):  # noqa: N818 - it is not an error
    """A signal came during the start."""


def check_ports(settings: Settings, command: str) -> None:
    """Raises UserError where this process cannot listen. Call it before anything slow is started."""
    another = settings.port + 1 if 1024 <= settings.port < 65535 else 8080
    _check_port(settings.host, settings.port, f"streamhub {command} --port {another}")
    if settings.operations_port not in (None, settings.port):
        another = settings.operations_port + 1 if settings.operations_port < 65535 else 9090
        _check_port(settings.host, settings.operations_port, f"{PREFIX}OPERATIONS_PORT={another}")


def _check_port(host: str, port: int, other: str) -> None:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else "it is not the name of a host"
        raise UserError(
            f"cannot listen on {host!r} ({reason}): name an address of this machine, for example --host 127.0.0.1"
        ) from None
    family, kind, protocol, _, address = found[0]
    try:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        if error.errno in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            remedy = "name an address of this machine, for example --host 127.0.0.1"
        elif error.errno in (errno.EACCES, errno.EPERM):
            remedy = f"a port below 1024 needs the right to it, so choose another port: {other}"
        else:
            remedy = f"stop what listens there, or choose another port: {other}"
        raise UserError(f"cannot listen on {host} port {port} ({error.strerror}): {remedy}") from None
