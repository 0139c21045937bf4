"""What a database's refusal means, in one sentence for a person."""

from __future__ import annotations

import asyncpg

from streamhub.errors import UserError
from streamhub.postgres import connections
from streamhub.postgres.connections import DATABASE_ERRORS, Connection
from streamhub.urls import shown

CONNECT_WITHIN = 10.0  # seconds
ANSWER_WITHIN = 60.0  # seconds; for statements of commands, which may wait for a lock


async def connect(url: str) -> Connection:
    """Raises UserError, with the address and without the password."""
    try:
        return await connections.connect(url, timeout=CONNECT_WITHIN, command_timeout=ANSWER_WITHIN)
    except DATABASE_ERRORS as error:
        raise cannot_connect(url, error) from error


def cannot_connect(url: str, error: BaseException) -> UserError:
    """Why, with the address and without the password."""
    reason = f"no answer in {CONNECT_WITHIN:.0f} s" if isinstance(error, TimeoutError) else str(error)
    return UserError(f"cannot connect to {shown(url)}: {' '.join(reason.split()) or type(error).__name__}")


def explain(error: BaseException) -> str:
    """A sentence for what a database or the operating system said."""
    if isinstance(error, asyncpg.InvalidSchemaNameError | asyncpg.UndefinedTableError) and "streamhub" in str(error):
        return f"the database has no streamhub schema or an old one ({error}): streamhub migrate brings it up to date"
    if isinstance(error, asyncpg.InsufficientPrivilegeError):
        return f"the database role lacks a right: {error}"
    if isinstance(error, TimeoutError):
        return f"the database did not answer within {ANSWER_WITHIN:.0f} s"
    return str(error) or type(error).__name__
