"""Connections to a database, none of which waits for long where its peer has vanished; the type of a pool; and what
asyncpg and the socket raise while a database is away.

Where a network swallows packets, neither a FIN nor a RST ever comes. Left to itself, TCP sends again for a quarter of
an hour and probes an idle connection after two hours, on either side: here a request would wait that long, there a
server would keep backends, their locks, and their places among max_connections.
"""

import contextlib
import socket
from typing import TYPE_CHECKING, Any, Final

import asyncpg

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record]
else:
    Pool = asyncpg.Pool  # takes no parameter at run time
    Connection = asyncpg.Connection

CONNECTED_WITHIN: Final = 5.0  # seconds
ACQUIRED_WITHIN: Final = 3.0  # seconds, from a pool; and as long to give back what was in the middle of something
SILENT_FOR: Final = 5  # seconds; what was sent is unacknowledged, or a probe of an idle connection

_PROBES: Final = (
    ("SO_KEEPALIVE", socket.SOL_SOCKET, 1),
    ("TCP_KEEPIDLE", socket.IPPROTO_TCP, SILENT_FOR),
    ("TCP_KEEPINTVL", socket.IPPROTO_TCP, 2),
    ("TCP_USER_TIMEOUT", socket.IPPROTO_TCP, SILENT_FOR * 1000),
)
# The server's side may wait longer: a process of ours that was stopped for a while is to find its connections.
_PROBES_OF_SERVER: Final = {
    "tcp_keepalives_idle": "10",
    "tcp_keepalives_interval": "5",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "20000",
}

# Whatever the server, the database or the role has for sessions in general. What a reader was sent must be durable:
# with synchronous_commit off a crash would take back an append of which the source's outbox was emptied already. And
# whoever waited for a lock must see what its holder committed.
_PROMISES: Final = {"synchronous_commit": "on", "default_transaction_isolation": "read committed"}

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


async def connect(
    url: str,
    *,
    timeout: float = CONNECTED_WITHIN,
    server_settings: dict[str, str] | None = None,
    **options: Any,
) -> Connection:
    """As asyncpg.connect, with commits that are durable and transactions that see what is committed. The connection is
    lost where its peer stays silent; one that works on a long statement is not, as its machine answers."""
    settings = _PROBES_OF_SERVER | _PROMISES | (server_settings or {})
    connection: Connection = await asyncpg.connect(url, timeout=timeout, server_settings=settings, **options)
    # asyncpg has no public way to the socket.
    sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]  # noqa: SLF001
    if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
        for name, level, value in _PROBES:
            if (option := getattr(socket, name, None)) is not None:  # not every system has them all
                with contextlib.suppress(OSError):  # the connection is gone again
                    sock.setsockopt(level, option, value)
    return connection


async def create_pool(
    url: str, name: str, most: int, *, command_timeout: float, server_settings: dict[str, str] | None = None
) -> Pool:
    """A pool of up to `most` connections, which PostgreSQL shows under `name`. Raises what asyncpg raises."""
    return await _Pool(
        url,
        min_size=1,
        max_size=most,
        max_queries=50_000,
        max_inactive_connection_lifetime=300.0,
        connect=connect,  # type: ignore[arg-type]  # the stub wants every argument named
        loop=None,
        connection_class=asyncpg.Connection,
        record_class=asyncpg.Record,
        command_timeout=command_timeout,
        server_settings={"application_name": name, "timezone": "UTC", "jit": "off", **(server_settings or {})},
    )


class _Pool(Pool):
    """asyncpg's waits for a free connection, and for the end of a statement that was given up, without an end."""

    def acquire(self, *, timeout: float | None = None) -> "asyncpg.pool.PoolAcquireContext[asyncpg.Record]":
        return super().acquire(timeout=ACQUIRED_WITHIN if timeout is None else timeout)
