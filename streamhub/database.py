"""What every part says of a database: the type of a pool, and what asyncpg and the socket raise while it is away."""

from typing import TYPE_CHECKING, Final

import asyncpg

if TYPE_CHECKING:
    Pool = asyncpg.Pool[asyncpg.Record]
else:
    Pool = asyncpg.Pool  # takes no parameter at run time

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
