"""Closing a window: making sure that nothing more can be published before its upper end.

Every append gives ids beyond `log_head` and moves it, in the transaction that writes history. So where the committed
head has reached the end of a window, a read sees all of it. Where it has not, the head is moved there: that waits
for the append in flight, and puts every later one behind. The head never goes ahead of the hub's clock.
"""

import asyncio
from typing import Final

from streamhub.history.head import HEAD
from streamhub.postgres.connections import Pool

TIMEOUT: Final = 10.0  # seconds

_STATE: Final = f"""
SELECT h.last_ms >= $1 AS closed, greatest($1 - extract(epoch FROM clock_timestamp()) * 1000, 0)::float8 AS ms_left
  FROM ({HEAD}) h
"""
_CLOSE: Final = "SELECT streamhub_hub.close_window($1)"


async def close_window(pool: Pool, to_ms: int) -> None:
    """Returns once every event published before `to_ms` is in history and none can follow. Waits for the hub's clock
    where it has not got there yet. Raises what asyncpg raises."""
    while True:
        state = await pool.fetchrow(_STATE, to_ms, timeout=TIMEOUT)
        assert state is not None, "log_head has a row from the migration on"
        if state["closed"]:
            return
        if state["ms_left"] > 0:
            await asyncio.sleep(min(1.0, state["ms_left"] / 1_000 + 0.0005))
        else:
            await pool.execute(_CLOSE, to_ms, timeout=TIMEOUT)
