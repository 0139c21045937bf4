"""What API keys cost the streams that were opened otherwise."""

import asyncio
from typing import Any, cast

from streamhub.gateway.api_keys import ApiKeys
from streamhub.keys.lookup import USE_NOTED_EVERY, Lookup
from streamhub.postgres.connections import Pool


class ReadOnly:
    """A pool whose database takes no writes."""

    def __init__(self) -> None:
        self.refused = 0

    async def execute(self, *_: Any, timeout: float) -> str:
        self.refused += 1
        raise OSError(f"refused within {timeout:g} s")


async def test_a_use_that_cannot_be_written_keeps_no_other_end_from_being_looked_for() -> None:
    pool, now = ReadOnly(), [0.0]
    lookup = Lookup(cast("Pool", pool), asyncio.Semaphore(), lambda: now[0])
    lookup.used("4Rk9TzQ2mVbX")
    now[0] = USE_NOTED_EVERY
    await ApiKeys(lookup).look([])
    assert pool.refused == 1
