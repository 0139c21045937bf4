"""`order: resource`: what waits behind what.

Of one endpoint and resource, the oldest delivery that is not finished is due; each other one waits behind it, its
`due_at` infinite, until the one before has been delivered or given up. Nothing goes beside another one.

A recovery or a retry may bring back an event that is older than one that is due. Then the older one goes first and the
newer one waits behind it, its own pause kept. Where the newer one is being attempted at that moment, the older one goes
once that attempt has ended, and before the newer one's next attempt. What was delivered already stays delivered: an
older event that comes back is sent after it, for the receiver to judge by the event's id.

Every statement here is run by a transaction that holds the endpoint's queue, FOR SHARE at least.
"""

from typing import Final

from streamhub.postgres.connections import AnyConnection

TIMEOUT: Final = 10.0  # seconds

HAS_OLDER: Final = """EXISTS (
       SELECT FROM streamhub_hub.webhook_deliveries AS w
        WHERE w.endpoint = {0}.endpoint AND w.resource_key = {0}.resource_key AND w.event < {0}.event)"""
"""Whether the row of that name waits behind another one."""

# In the order of its resource, the one that follows each of these, of those that are there.
HOLD_NEWER: Final = """
UPDATE streamhub_hub.webhook_deliveries AS d SET due_at = 'infinity'
  FROM (SELECT DISTINCT r.endpoint, next.event FROM unnest($1::uuid[], $2::bigint[], $3::uuid[])
                                                 AS r (endpoint, resource_key, event)
         JOIN streamhub_hub.webhook_deliveries AS added USING (endpoint, event)
         CROSS JOIN LATERAL (SELECT event FROM streamhub_hub.webhook_deliveries AS w
                              WHERE w.endpoint = r.endpoint AND w.resource_key = r.resource_key AND w.event > r.event
                              ORDER BY w.event LIMIT 1) AS next) AS found
 WHERE d.endpoint = found.endpoint AND d.event = found.event AND d.due_at < 'infinity'
"""
FREE_OLDEST: Final = """
UPDATE streamhub_hub.webhook_deliveries AS d SET due_at = greatest(clock_timestamp(), d.not_before)
  FROM (SELECT DISTINCT r.endpoint, next.event FROM unnest($1::uuid[], $2::bigint[]) AS r (endpoint, resource_key)
         CROSS JOIN LATERAL (SELECT event FROM streamhub_hub.webhook_deliveries AS w
                              WHERE w.endpoint = r.endpoint AND w.resource_key = r.resource_key
                              ORDER BY w.event LIMIT 1) AS next) AS found
 WHERE d.endpoint = found.endpoint AND d.event = found.event AND d.due_at = 'infinity'
"""


async def hold_newer(connection: AnyConnection, added: list[tuple[str, int, str]]) -> None:
    """Deliveries (endpoint, key of the resource, event) were added: what is newer waits behind them. One that is
    finished, or was never made, holds nothing."""
    if added:
        await connection.execute(HOLD_NEWER, *map(list, zip(*added, strict=True)), timeout=TIMEOUT)


async def free_oldest(connection: AnyConnection, ended: list[tuple[str, int]]) -> None:
    """Deliveries of these (endpoint, key of the resource) have ended: what comes next is due, after its own pause."""
    if ended:
        await connection.execute(FREE_OLDEST, *map(list, zip(*ended, strict=True)), timeout=TIMEOUT)
