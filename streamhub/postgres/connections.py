"""Connections to a database, none of which waits for long where its peer has vanished; the types of pools and
connections (AnyConnection is one of its own or one that a pool lends); and what asyncpg and the socket raise while a
database is away.

Where a network swallows packets, neither a FIN nor a RST ever comes. Left to itself, TCP sends again for a quarter of
an hour and probes an idle connection after two hours, on either side: here a request would wait that long, there a
server would keep backends, their locks, and their places among max_connections.
"""

import asyncio
import contextlib
import re
import socket
import ssl
from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

import asyncpg

from streamhub.urls import target

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record]
    AnyConnection = Connection | asyncpg.pool.PoolConnectionProxy[asyncpg.Record]
else:
    Pool = asyncpg.Pool  # takes no parameter at run time
    Connection = asyncpg.Connection
    AnyConnection = asyncpg.Connection | asyncpg.pool.PoolConnectionProxy

CONNECTED_WITHIN: Final = 5.0  # seconds
ACQUIRED_WITHIN: Final = 3.0  # seconds, from a pool; and as long to give back what was in the middle of something
SILENT_FOR: Final = 5  # seconds; what was sent is unacknowledged, or a probe of an idle connection

_PROBES: Final = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, SILENT_FOR),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 2),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, SILENT_FOR * 1000),
)

# What a session is set to, whatever the server, the database or the role has for sessions in general: all on which the
# meaning of a query, its plan or the session's life rests, by the sections of PostgreSQL's own list, so that what a
# later version adds is among them. It is set after connecting, since a pooler passes few settings on.
_SECTIONS: Final = (
    "Client Connection Defaults / Statement Behavior",
    "Client Connection Defaults / Locale and Formatting",
    "Version and Platform Compatibility / %",
    "Query Tuning / %",
    "Developer Options",
    "Error Handling",
)
# Where PostgreSQL's own default is not what we need. What a reader was sent must be durable: with synchronous_commit
# off a crash would take back an append of which the source's outbox was emptied already. And a statement that waited
# for a lock must see what its holder committed.
_OURS: Final = {
    "synchronous_commit": "on",
    "timezone": "UTC",
    "jit": "off",
    "random_page_cost": "1.1",
    # A process of ours that was stopped for a while is to find its connections, so the server's side waits longer.
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}
# Neither a name nor an operator is looked for in a schema that somebody else may write to. SET looks nothing up and is
# not planned, so a time-out of milliseconds leaves it time. plpgsql's setting is unknown before plpgsql is used.
_FIRST: Final = (
    "SET quote_all_identifiers = off; SET search_path = pg_catalog; SET statement_timeout = 0; SET jit = off; "
    "SET plpgsql.extra_errors = 'none'"
)
_SET: Final = """
SELECT set_config(s.name, coalesce(ours.value, s.boot_val), false)
  FROM pg_settings AS s LEFT JOIN (VALUES {ours}) AS ours(name, value) ON lower(s.name) = ours.name
 WHERE (s.context = 'user' OR s.name = 'session_replication_role' AND current_setting('is_superuser') = 'on')
   AND s.name NOT IN ('search_path', 'client_encoding', 'transaction_isolation', 'transaction_read_only',
                      'transaction_deferrable')
   AND (ours.name IS NOT NULL
        OR s.setting IS DISTINCT FROM s.boot_val AND s.boot_val IS NOT NULL AND s.category LIKE ANY (ARRAY[{sections}]))
"""

# With glibc a server's process gives a block of 128 KiB or more back to the kernel, then takes it again piece by piece:
# three quarters of what reading a page of a megabyte costs. Once it has freed a larger block, here one of 4 MiB, it
# keeps blocks of up to that size ("M_MMAP_THRESHOLD" in mallopt(3)).
_LARGE_BLOCK: Final = "SELECT octet_length(repeat(repeat('x', 1024), 4096))"

# InternalClientError: a statement on a connection that was cut and has not noticed yet.
DATABASE_ERRORS: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
"""Whatever can go wrong with a statement; a programming error in SQL is among them."""

DATABASE_AWAY: Final = (
    OSError,  # TimeoutError is one
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.OperatorInterventionError,
    asyncpg.InsufficientResourcesError,
    asyncpg.InvalidAuthorizationSpecificationError,  # somebody else's server at its address, in a fail-over
)
"""The database is away, starting, stopping or short of connections: trying again may help."""


class Session(Connection):
    """A connection whose settings outlive its return to a pool. Nothing of ours leaves any other state behind there:
    what listens or holds a lock of its session has a connection of its own."""

    __slots__ = ()

    def get_reset_query(self) -> str:
        return ""


# PgBouncer says everything with one code, what passes and what does not.
_NEVER_BETTER: Final = re.compile(
    r"unsupported startup parameter|no such (database|user)|authentication failed|SSL required|not allowed",
    re.IGNORECASE,
)


def passes(error: BaseException) -> bool:
    """Whether a connection that could not be made for this may be made later, with nothing changed in our settings."""
    if isinstance(error, ssl.SSLError) or "rejected SSL upgrade" in str(error):
        return False
    if isinstance(error, asyncpg.PostgresConnectionError):
        return not _NEVER_BETTER.search(str(error))
    return isinstance(
        error,
        OSError
        | asyncpg.CannotConnectNowError
        | asyncpg.OperatorInterventionError
        | asyncpg.InsufficientResourcesError  # too many connections
        | asyncpg.TargetServerAttributeNotMatched,  # in a fail-over
    )


async def is_pooled_by_transaction(url: str, *, timeout: float = CONNECTED_WITHIN) -> bool:
    """Whether what answers at `url` is a pooler that gives one connection to several clients, transaction by
    transaction or statement by statement. Raises what a connection raises.

    Two clients look whose backend answers them. Where each has its own for as long as it is connected, neither ever
    sees another one, nor the other's. Where backends are lent, the next transaction gets the one that was given back
    last (the order of PgBouncer's), or the one that was idle for longest (with server_round_robin): in the order A, B,
    B, A, the one shows itself at the first B, the other one at the second. What other clients do in between makes it
    more likely to see it. A pooler with one backend for each client would go unseen, and do no harm.
    """
    to = target(url)
    async with contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(2):
            client: Connection = await asyncpg.connect(
                to.url, timeout=timeout, command_timeout=timeout, statement_cache_size=0,
                server_settings={"application_name": "streamhub"},
            )  # fmt: skip
            stack.callback(client.terminate)
            try:
                backends = {await _backend(client)}
            except asyncpg.PostgresError as error:
                if "pooling mode" in str(error):  # a transaction is refused where statements are pooled
                    return True
                raise
            if client.get_server_pid() in backends:
                return False  # the server itself: a pooler gives its clients numbers of its own
            clients.append((client, backends))
        for number in (1, 0, 0, 1) * 4:
            client, seen = clients[number]
            seen.add(await _backend(client))
        first, second = (seen for _, seen in clients)
        return len(first) > 1 or len(second) > 1 or bool(first & second)


async def _backend(client: Connection) -> int:
    # In a transaction, as asyncpg asks in two steps, which may reach two backends otherwise.
    async with client.transaction():
        number: int = await client.fetchval("SELECT pg_catalog.pg_backend_pid()")
        return number


async def connect(
    url: str,
    *,
    timeout: float = CONNECTED_WITHIN,
    server_settings: dict[str, str] | None = None,
    reads_pages: bool = False,
    **options: Any,
) -> Connection:
    """As asyncpg.connect, with the settings that ours rest on, and `server_settings` over them. The connection is lost
    where its peer stays silent; one that works on a long statement is not, as its machine answers. `reads_pages`: pages
    of history are read over it, so the server keeps their memory for it.

    `url` does what it does for libpq, or raises WrongUrlError.
    """
    settings = dict(server_settings or {})
    start_up = {"application_name": settings.pop("application_name", "streamhub")}
    to = target(url)
    within = timeout if to.connect_timeout is None else to.connect_timeout
    options["connection_class"] = Session
    loop = asyncio.get_running_loop()
    ends = loop.time() + within
    connection: Connection = await asyncpg.connect(to.url, timeout=within, server_settings=start_up, **options)
    try:
        _keep_alive(connection)
        statement = _settings(settings)
        if reads_pages:
            statement += f";{_LARGE_BLOCK}"
        await connection.execute(statement, timeout=max(1.0, ends - loop.time()))
    except BaseException:
        connection.terminate()
        raise
    return connection


@lru_cache(32)
def _statement(settings: tuple[tuple[str, str], ...]) -> str:
    ours = ", ".join(f"({_quoted(name)}, {_quoted(value)})" for name, value in settings)
    sections = ", ".join(map(_quoted, _SECTIONS))
    # In one go: each is looked at when the one before is done.
    return f"{_FIRST};{_SET.format(ours=ours, sections=sections)}"


def _settings(settings: Mapping[str, str]) -> str:
    """One statement string that makes a session ours; `settings` win."""
    wanted = _OURS | {name.lower(): value for name, value in settings.items()}
    return _statement(tuple(wanted.items()))


def _quoted(text: str) -> str:
    """As a literal, whatever standard_conforming_strings is: no setting here has a backslash."""
    if "\\" in text:
        raise ValueError(text)
    return "'" + text.replace("'", "''") + "'"


def _keep_alive(connection: Connection) -> None:
    # asyncpg has no public way to the socket.
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for name, level, value in _PROBES:
            if (option := getattr(socket, name, None)) is not None:  # not every system has them all
                with contextlib.suppress(OSError):  # the connection is gone again
                    sock.setsockopt(level, option, value)


async def create_pool(
    url: str,
    name: str,
    most: int,
    *,
    command_timeout: float,
    server_settings: dict[str, str] | None = None,
    reads_pages: bool = False,
) -> Pool:
    """A pool of up to `most` connections as `connect` makes them, which PostgreSQL shows under `name`. Raises what
    asyncpg raises."""
    return await _Pool(
        url,
        min_size=1,
        max_size=most,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        connect=connect,  # type: ignore[arg-type]  # the stub wants every argument named
        loop=None,
        connection_class=Session,
        record_class=asyncpg.Record,
        command_timeout=command_timeout,
        server_settings={"application_name": name, **(server_settings or {})},
        reads_pages=reads_pages,
    )


class _Pool(Pool):
    """asyncpg's waits for a free connection, and for the end of a statement that was given up, without an end."""

    def acquire(self, *, timeout: float | None = None) -> "asyncpg.pool.PoolAcquireContext[asyncpg.Record]":
        return super().acquire(timeout=ACQUIRED_WITHIN if timeout is None else timeout)
