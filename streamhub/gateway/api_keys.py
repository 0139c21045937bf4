"""API keys as tokens: what a request with one may do, and the end of the streams whose key is no longer good."""

import time
from collections.abc import Collection
from typing import Final

from streamhub.gateway import budget
from streamhub.gateway.streams.stream import Cause, Stream
from streamhub.keys import key
from streamhub.keys.lookup import Lookup
from streamhub.web.auth import Claims
from streamhub.web.problems import unauthorized
from streamhub.web.turns import Turns

KIND: Final = "api_key"
MOST_WAITING: Final = 1_000
WAITS: Final = 10.0  # seconds


class ApiKeys:
    """`claims` for a request, `look` now and then.

    Look-ups have a line of their own, with a bound: guesses share statements with one another, and never stand before
    requests with a good token in the line for the database. A key that was read just now needs no place in that line.
    """

    def __init__(self, lookup: Lookup) -> None:
        self._lookup = lookup
        self._turns = Turns(budget.KEY_TURNS, MOST_WAITING, WAITS)

    async def claims(self, token: str, now: float) -> Claims:
        """What a key says at `now` (seconds of the Unix epoch). Raises ApiError (401, 503) and what asyncpg raises."""
        presented = key.read(token)
        if presented is None:
            raise unauthorized(
                "INVALID_TOKEN",
                "The API key is not valid. It is not whole: copy all that streamhub key create printed.",
            )
        kept = self._lookup.kept(presented.id)
        if kept is not None:
            stored = kept.key
        else:
            async with self._turns.turn():
                stored = await self._lookup.one(presented.id)
        if stored is None or not presented.is_key_of(stored.hash):
            raise unauthorized("INVALID_TOKEN", "The API key is not valid. There is no such key here.")
        if stored.revoked:
            raise unauthorized("INVALID_TOKEN", "The API key is not valid. It was revoked: get a new one.")
        if not stored.is_good(now):
            raise unauthorized("EXPIRED_TOKEN", "The API key has expired: get a new one.")
        self._lookup.used(stored.id)
        return Claims(
            stored.organization_id, stored.slug, stored.enterprise, KIND, stored.test, stored.scopes,
            stored.expires_at, stored.id,
        )  # fmt: skip

    async def look(self, streams: Collection[Stream]) -> None:
        """End the streams whose key was revoked, has expired or is gone. Raises what asyncpg raises; then the streams
        go on."""
        opened_by = [(stream, stream.api_key) for stream in streams if stream.api_key is not None]
        if opened_by:
            keys = await self._lookup.all([id for _, id in opened_by])
            now = time.time()
            for stream, id in opened_by:
                stored = keys[id]
                if stored is None or not stored.is_good(now):
                    stream.finish(Cause.EXPIRED_TOKEN)
                else:
                    self._lookup.used(id)
        self._lookup.note_use()

    async def stop(self) -> None:
        await self._lookup.stop()
