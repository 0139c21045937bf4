"""What a dispatcher counts."""

from aiohttp import web

from streamhub.webhooks import store
from tests.integration.conftest import History, eventually
from tests.integration.webhooks.conftest import Owner, Receiver, Start


async def test_attempts_are_counted_by_outcome_and_deliveries_as_they_are_made_and_end(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    async def once_wrong(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=503 if len(receiver.received) == 1 else 200)

    receiver.answers["/a"] = once_wrong
    await owner.add()
    metrics = (await start())._metrics
    await history.append(organization)

    async def is_told() -> bool:
        told = metrics.exposition([]).decode()
        return all(
            f"streamhub_webhook_{line}\n" in told
            for line in (
                "deliveries_total 1.0", 'deliveries_ended_total{state="delivered"} 1.0',
                'deliveries_ended_total{state="failed"} 0.0', 'attempts_total{outcome="delivered"} 1.0',
                'attempts_total{outcome="failed"} 1.0', "attempt_seconds_count 2.0", "lag_seconds_count 1.0",
            )
        )  # fmt: skip

    await eventually(is_told)


async def test_a_recovery_counts_the_deliveries_that_it_makes(
    history: History, organization: int, receiver: Receiver, owner: Owner, start: Start
) -> None:
    id_ = (await owner.add())["id"]
    metrics = (await start())._metrics
    await history.append(organization, 3)
    await receiver.has(3)
    await owner.settled()
    async with owner.pool.acquire() as connection:
        await store.recover(connection, owner.scope, id_, 1)
    await owner.settled()
    await history.append(organization)
    await receiver.has(4)
    await owner.settled()
    assert "streamhub_webhook_deliveries_total 4.0\n" in metrics.exposition([]).decode()
