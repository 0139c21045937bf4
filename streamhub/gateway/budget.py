"""Who uses the connections of the gateway's pool, each of them no more at once than this.

The sum is no more than the pool has, so nothing waits for a connection behind something else: above all not the renewal
of the node's row, on which all leases rest. Replays have pages of their own, so that they never stand before live
streams.
"""

from typing import Final

REQUESTS: Final = 3  # whose statements are their own, and one that finds API keys, of many requests at once
TOGETHER: Final = 2  # requests whose statements are put together: one connection finds, one takes
LIVE_PAGES: Final = 2
REPLAY_PAGES: Final = 2
PUBLISHING: Final = 2  # requests that store events
BROADCAST_PAGES: Final = 2
JOBS: Final = 2  # rows of replays that are running
OTHERS: Final = 9  # renewal, cursors and ends, looks for ends, closing of windows, registrations, facts 2, tail 2

TURNS: Final = 64  # requests that are before the database at once, and so the most in one statement
KEY_TURNS: Final = 32  # of requests whose API key has to be looked up, before anything is known of them
