"""What every part takes for a database that is away, as asyncpg and the socket tell it."""

from typing import Final

import asyncpg

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
