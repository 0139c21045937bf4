"""What an append tells the tails of other processes: one NOTIFY, sent with its transaction."""

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import asyncpg

from streamhub.postgres.channels import CHANNELS

TIMEOUT: Final = 10.0  # seconds

LONGEST_PAYLOAD: Final = 7_000  # PostgreSQL takes less than 8,000 bytes


async def listen(connection: "asyncpg.Connection[asyncpg.Record]", heard: Callable[..., None]) -> None:
    """Have `heard` called, as asyncpg calls a listener, while the connection lives. Raises what asyncpg raises."""
    channel = await connection.fetchval(f"SELECT c.appends FROM ({CHANNELS}) AS c", timeout=TIMEOUT)
    await connection.add_listener(channel, heard)


class Notice(NamedTuple):
    """`previous` is the head before the append, `first` and `last` its events' ids. `organizations` are the registry's
    keys; None where they were too many to name."""

    previous: str
    first: str
    last: str
    organizations: frozenset[int] | None

    @classmethod
    def parse(cls, payload: str) -> "Notice":
        """Raises ValueError where `payload` is no notice."""
        previous, first, last, names = payload.split(" ")
        return cls(previous, first, last, None if names == "*" else frozenset(int(name) for name in names.split(",")))


def payload_of(previous: str, first: str, last: str, organizations: Sequence[int]) -> str:
    names = ",".join(map(str, organizations))
    if len(names) > LONGEST_PAYLOAD - 3 * 37:
        names = "*"
    return f"{previous} {first} {last} {names}"
