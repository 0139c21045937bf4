"""What API keys cost the streams that were opened otherwise."""

import asyncio
from collections.abc import Callable
from typing import Any, cast

import pytest

from streamhub.gateway.api_keys import ApiKeys
from streamhub.keys.lookup import USE_NOTED_EVERY, Lookup
from streamhub.postgres.connections import Pool
from streamhub.web.problems import ApiError
from streamhub.web.turns import Turns

ID = "4Rk9TzQ2mVbX"


class Database:
    """A pool whose database has no key, and takes no writes before `writes` is set."""

    def __init__(self) -> None:
        self.writes = asyncio.Event()
        self.written = 0
        self.reads = 0

    async def execute(self, *_: Any, timeout: float) -> str:
        await self.writes.wait()
        self.written += 1
        raise OSError(f"refused within {timeout:g} s")

    async def fetch(self, *_: Any, timeout: float) -> list[Any]:
        self.reads += 1
        assert timeout > 0
        return []


def of(database: Database, clock: Callable[[], float]) -> Lookup:
    return Lookup(cast("Pool", database), asyncio.Semaphore(), clock)


async def test_the_look_for_ends_waits_for_no_use_to_be_written_and_fails_with_none() -> None:
    database, now = Database(), [0.0]
    lookup = of(database, lambda: now[0])
    keys = ApiKeys(lookup)
    lookup.used(ID)
    now[0] = USE_NOTED_EVERY
    await keys.look([])
    await keys.look([])
    assert database.written == 0
    database.writes.set()
    await lookup.noted()
    assert database.written == 1


async def test_a_key_that_was_read_just_now_needs_no_place_in_the_line_of_guesses() -> None:
    database = Database()
    keys = ApiKeys(of(database, lambda: 0.0))
    keys._turns = Turns(1, most_waiting=0)
    token = f"sh_ak_{ID}_{'x' * 43}"

    async def refusal() -> str:
        with pytest.raises(ApiError) as refused:
            await keys.claims(token, 0.0)
        return refused.value.faults[0].code

    assert await refusal() == "INVALID_TOKEN"
    async with keys._turns.turn():
        assert await refusal() == "INVALID_TOKEN"
    assert database.reads == 1
