"""The organizations as the relay has seen them."""

from collections.abc import Collection, Iterable
from typing import Any, Final

import asyncpg

from streamhub import organizations
from streamhub.organizations import Organization
from streamhub.postgres.channels import CHANNELS

MOST_CACHED: Final = 100_000
_ACQUIRED_WITHIN: Final = 10.0  # seconds


class Registry:
    """Looks up a batch's organizations at once, and keeps those that are enterprise until the hub tells of a change.

    Others are looked up for each batch: their changes are dropped for good, and the news that one is enterprise by now
    may still be on its way. A look that was under way when a change was told may have seen what was before: the batch
    that asked may use it, since its changes are older than the look, but it is not kept.
    """

    def __init__(self, hub: "asyncpg.Pool[Any]") -> None:
        self._hub = hub
        self._known: dict[str, Organization] = {}  # in the order of their last use
        self._stale: list[set[str]] = []  # of each look under way: what was told meanwhile

    async def organizations(self, ids: Iterable[str]) -> dict[str, Organization]:
        """Those with these ids, the new ones registered. An id that cannot be one is left out."""
        found: dict[str, Organization] = {}
        unknown: list[str] = []
        for id_ in ids:
            known = self._known.pop(id_, None)
            if known is not None:
                found[id_] = self._known[id_] = known
            elif 0 < len(id_) <= organizations.LONGEST_ID:
                unknown.append(id_)
        if unknown:
            found |= await self._look(unknown)
        return found

    async def _look(self, ids: Collection[str]) -> dict[str, Organization]:
        stale: set[str] = set()
        self._stale.append(stale)
        try:
            async with self._hub.acquire(timeout=_ACQUIRED_WITHIN) as connection:
                seen = await organizations.register_on_first_sight(connection, ids)
        finally:
            self._stale = [each for each in self._stale if each is not stale]
        for id_, organization in seen.items():
            if id_ not in stale and organization.enterprise:
                self._known[id_] = organization
        while len(self._known) > MOST_CACHED:
            del self._known[next(iter(self._known))]
        return seen

    async def listen(self, connection: "asyncpg.Connection[Any]") -> None:
        """Hear of changes over this connection for as long as it lives: a trigger tells the id of each that changed."""
        channel = await connection.fetchval(f"SELECT c.organizations FROM ({CHANNELS}) AS c")
        await connection.add_listener(channel, lambda *arguments: self.forget(arguments[3]))

    def forget(self, id_: str) -> None:
        """The hub tells of a change."""
        self._known.pop(id_, None)
        for stale in self._stale:
            stale.add(id_)
