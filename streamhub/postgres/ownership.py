"""Which hub consumes the outbox of a source: the one whose id the source holds.

Two hubs that consumed one outbox would each publish a part of its changes, and neither hub would know. So the first
relay that comes to a source claims it. Another hub's relay reads and deletes nothing there. A deletion locks the claim.
"""

from typing import Final

from streamhub.postgres.connections import AnyConnection

_HUB: Final = "SELECT id::text FROM streamhub_hub.identity"
_OWNER: Final = "SELECT hub::text FROM streamhub.relay_mark"
_CLAIM: Final = "UPDATE streamhub.relay_mark SET hub = $1 WHERE hub IS NULL"
_FORMER: Final = "SELECT hub::text FROM streamhub.relay_mark FOR UPDATE"
_TAKE_OVER: Final = "UPDATE streamhub.relay_mark SET hub = $1"


class ForeignSourceError(Exception):
    """The outbox belongs to the hub `owner`, which is not the one that asked."""

    def __init__(self, owner: str | None) -> None:
        super().__init__(f"the outbox belongs to the hub {owner}")
        self.owner = owner


async def hub_id(hub: AnyConnection) -> str:
    """The UUID of a hub, made with its schema: it is the same in a restored dump of it."""
    return str(await hub.fetchval(_HUB))


async def owner(source: AnyConnection) -> str | None:
    """The id of the hub that consumes this outbox; None where no relay has claimed it yet."""
    found: str | None = await source.fetchval(_OWNER)
    return found


async def claim(source: AnyConnection, hub: str) -> None:
    """Claim an outbox for a hub unless one has it. Of several at once one gets it, and the others wait for that one.

    Raises ForeignSourceError where it is another hub's.
    """
    async with source.transaction():
        await source.execute("SET LOCAL synchronous_commit = on")
        await source.execute(_CLAIM, hub)
    found = await owner(source)
    if found != hub:
        raise ForeignSourceError(found)


async def take_over(source: AnyConnection, hub: str) -> str | None:
    """Give an outbox to this hub. The id of the hub that had it; None where that is no other one."""
    async with source.transaction():
        former: str | None = await source.fetchval(_FORMER)
        if former == hub:
            return None
        await source.execute(_TAKE_OVER, hub)
        return former


def remedy(source: str, *, in_hub: bool) -> str:
    """What to do about a source that is another hub's."""
    if in_hub:
        return "where that hub is no more, streamhub migrate --take-over; else give this hub a database of its own"
    return (
        f"remove it from STREAMHUB_SOURCE_URLS; or, where that hub is no more, "
        f"streamhub migrate --source {source} --take-over"
    )
