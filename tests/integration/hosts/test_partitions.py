"""Links that swallow packets: a gateway and then the leading relay cut off from the database, a client from a gateway.

One run, in which the client is away for as long as the rest takes; the tests look at what came of it.
"""

import asyncio
import itertools
import time
from typing import NamedTuple

import pytest

from streamhub.runtime.process import HUB_CONNECTIONS
from tests.integration.conftest import Answer
from tests.integration.hosts.scene import Scene, scene
from tests.support.consumer import Consumer, consuming
from tests.support.hub import Process, traffic, until
from tests.support.network import Host

GATEWAY_CUT_FOR = 9.0  # seconds: the lease expires, another gateway takes a stream, and some is left
RELAY_CUT_FOR = 7.0
ASKED_AT = (0.5, 6.5)  # seconds after the cut: while the gateway still trusts its lease, and after
TOLD_WITHIN = 7.0  # seconds: 5, and what a busy machine adds
HERD = 40  # requests at the same time, more than the gateway has connections to the database
BULK = 20_000  # changes, so that the relay is cut off in the middle of appends


class Timed(NamedTuple):
    answer: Answer
    took: float


class GatewayCut(NamedTuple):
    """`taken` and `kept` consumed from the gateway when it was cut off from the database; meanwhile `taker` got the
    stream of `taken` from another one. Times of time.monotonic()."""

    at: float
    restored: float
    taken: Consumer
    taker: Consumer
    kept: Consumer
    answers: list[Timed]
    readiness: list[Timed]
    ready_after: float
    connections: int


class RelayCut(NamedTuple):
    """`led_after` and `standby_after`: seconds from the cut and from its end."""

    led_after: float
    standby_after: float
    epochs: list[int]


class ClientCut(NamedTuple):
    """`successor` asked for the stream of `lost` from the cut on."""

    at: float
    lost: Consumer
    successor: Consumer


class Outcome(NamedTuple):
    """`published` are the ids and `committed` the keys of an organization's changes, after all."""

    gateway: GatewayCut
    relay: RelayCut
    client: ClientCut
    published: dict[str, list[str]]
    committed: dict[str, list[str]]


@pytest.fixture(scope="module")
async def outcome(tmp_path_factory: pytest.TempPathFactory, namespaces: None) -> Outcome:
    async with scene(tmp_path_factory.mktemp("hosts")) as stage:
        near = await stage.start("gw1", "gateway")
        await stage.hub.prepare()
        far = await stage.start("gw2", "gateway")
        leader = await stage.start("relay1", "relay")
        await until(lambda: "leading with epoch" in leader[1].logged(), "the first relay leads")
        await stage.start("relay2", "relay")
        return await _play(stage, near, far, leader[0])


async def _play(stage: Scene, near: tuple[Host, Process], far: tuple[Host, Process], leader: Host) -> Outcome:
    hub, clients, away = stage.hub, stage.net.host("clients"), stage.net.host("away")
    taken = Consumer(hub, [near[1], far[1]], "taken", at=clients)
    taker = Consumer(hub, [far[1]], "taken", at=clients, log=taken.log)
    kept = Consumer(hub, [near[1]], "kept", at=clients)
    lost = Consumer(hub, [far[1]], "lost", at=away, patience=120)
    successor = Consumer(hub, [far[1]], "lost", at=clients, resuming=False)
    streams = ["taken", "kept", "lost"]
    async with consuming(taken), consuming(kept), consuming(lost), consuming(taker, successor, wait=False):
        async with traffic(hub.url, streams, 50):
            await until(lambda: all(len(each.log) > 20 for each in (taken, kept, lost)), "the streams are under way")
            stage.net.cut(away, far[0])
            client = ClientCut(time.monotonic(), lost, successor)
            gateway = await _cut_gateway(stage, near, clients, (taken, taker, kept))
            relay = await _cut_relay(stage, leader)
            await until(lambda: successor.connected, "the lost client's stream is given out again", 45)
        await until(hub.is_all_published, "everything is published")
        published = {each: await hub.published(each) for each in [*streams, "bulk"]}
        for each in (taker, kept, successor):
            await until(lambda: each.has(published[each.organization][-1]), "the last event is there")  # noqa: B023
    return Outcome(gateway, relay, client, published, {each: await hub.rows(each) for each in published})


async def _cut_gateway(
    stage: Scene, near: tuple[Host, Process], clients: Host, consumers: tuple[Consumer, Consumer, Consumer]
) -> GatewayCut:
    (host, gateway), (taken, taker, kept) = near, consumers

    async def ask(path: str) -> Timed:
        began = time.monotonic()
        answer = await stage.ask(clients, gateway, path)
        return Timed(answer, time.monotonic() - began)

    async def ask_in(seconds: float) -> tuple[list[Timed], Timed]:
        await asyncio.sleep(seconds)
        readiness = asyncio.create_task(ask("/-/ready"))
        return await asyncio.gather(*(ask("/org-0/status") for _ in range(HERD))), await readiness

    async def is_ready() -> bool:
        return (await ask("/-/ready")).answer.status == 200

    stage.net.cut(host, stage.database)
    at = time.monotonic()
    asked = [asyncio.create_task(ask_in(seconds)) for seconds in ASKED_AT]
    await until(lambda: taker.connected, "another gateway gives the stream out", 10)
    found = await asyncio.gather(*asked)  # what is asked while the link is cut is answered before it is back
    await asyncio.sleep(max(0, at + GATEWAY_CUT_FOR - time.monotonic()))
    stage.net.restore(host, stage.database)
    restored = time.monotonic()
    await until(lambda: kept.connections[-1].times[-1] > restored, "events flow again")
    await until(is_ready, "the gateway is ready")
    ready_after = time.monotonic() - restored
    answers, readiness = [each for herd, _ in found for each in herd], [ready for _, ready in found]
    connections = await stage.connections_of(host)
    return GatewayCut(at, restored, taken, taker, kept, answers, readiness, ready_after, connections)


async def _cut_relay(stage: Scene, leader: Host) -> RelayCut:
    async def epoch() -> int:
        (row,) = await stage.query("SELECT epoch FROM streamhub_hub.relay_lease")
        return int(row[0])

    async def another_leads() -> bool:
        return await epoch() > before

    async def stands_by() -> bool:
        new = (
            "SELECT FROM pg_stat_activity "
            "WHERE client_addr = $1::text::inet AND application_name ~ 'candidate' AND backend_start > $2"
        )
        return bool(await stage.query(new, leader.address, restored_at))

    before = await epoch()
    await stage.query("INSERT INTO skus (org) SELECT 'bulk' FROM generate_series(1, $1::int)", BULK)
    stage.net.cut(leader, stage.database)
    at = time.monotonic()
    await until(another_leads, "another relay leads")
    led_after = time.monotonic() - at
    await asyncio.sleep(max(0, at + RELAY_CUT_FOR - time.monotonic()))
    epochs = [before, await epoch()]
    ((restored_at,),) = await stage.query("SELECT clock_timestamp()")
    stage.net.restore(leader, stage.database)
    restored = time.monotonic()
    await until(stands_by, "the former leader stands by")
    standby_after = time.monotonic() - restored
    return RelayCut(led_after, standby_after, [*epochs, await epoch()])


# -- a gateway cut off from the database


def test_new_requests_are_told_503_within_seconds(outcome: Outcome) -> None:
    for answer, took in outcome.gateway.answers:
        assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
        assert took < TOLD_WITHIN, took


def test_once_the_lease_is_no_longer_trusted_they_are_told_at_once(outcome: Outcome) -> None:
    assert max(took for _, took in outcome.gateway.answers[HERD:]) < 1


def test_it_is_not_ready_and_says_so_in_time(outcome: Outcome) -> None:
    for answer, took in outcome.gateway.readiness:
        assert answer.status == 503
        assert took < 3, took


def test_its_heartbeats_go_on(outcome: Outcome) -> None:
    gateway = outcome.gateway
    times = [at for at in gateway.kept.connections[0].heartbeats if gateway.at - 1 < at < gateway.restored]
    pauses = [later - earlier for earlier, later in itertools.pairwise([*times, gateway.restored])]
    assert max(pauses) < 3, pauses


def test_another_gateway_gives_out_its_streams_within_six_seconds(outcome: Outcome) -> None:
    gateway = outcome.gateway
    assert gateway.taker.connections[0].since - gateway.at < 6.5  # 6 s, and up to 0.25 s between two tries


def test_it_sends_no_event_once_another_one_may_hold_the_stream(outcome: Outcome) -> None:
    gateway = outcome.gateway
    assert gateway.taken.connections[0].times[-1] < gateway.taker.connections[0].since


def test_the_stream_that_was_taken_ends_with_lease_lost(outcome: Outcome) -> None:
    ended = outcome.gateway.taken.connections[0]
    assert ended.error is not None
    assert (ended.error["code"], ended.error["resumable"]) == ("LEASE_LOST", True)


def test_the_stream_that_no_gateway_took_goes_on_where_it_is_within_seconds(outcome: Outcome) -> None:
    gateway = outcome.gateway
    (connected,) = gateway.kept.connections
    assert next(at for at in connected.times if at > gateway.restored) - gateway.restored < 8


def test_it_is_ready_again_within_seconds(outcome: Outcome) -> None:
    assert outcome.gateway.ready_after < 8


def test_no_connections_are_left_over(outcome: Outcome) -> None:
    assert outcome.gateway.connections <= HUB_CONNECTIONS + 1  # of its pool, and one that listens


@pytest.mark.parametrize("organization", ["taken", "kept"])
def test_consumers_that_resume_get_all_in_order_once(outcome: Outcome, organization: str) -> None:
    log = (outcome.gateway.taker if organization == "taken" else outcome.gateway.kept).log
    assert log == outcome.published[organization]
    assert len(log) == len(outcome.committed[organization])


# -- the leading relay cut off from the database


def test_another_relay_leads_within_five_seconds(outcome: Outcome) -> None:
    assert outcome.relay.led_after < 5


def test_what_the_former_leader_had_under_way_is_in_history_once(outcome: Outcome) -> None:
    assert len(outcome.published["bulk"]) == len(outcome.committed["bulk"]) == BULK


def test_once_it_is_back_it_stands_by(outcome: Outcome) -> None:
    before, meanwhile, after = outcome.relay.epochs
    assert before < meanwhile == after
    assert outcome.relay.standby_after < 10


# -- a client cut off from its gateway


def test_its_stream_is_given_out_again_within_thirty_seconds_and_the_five_that_follow(outcome: Outcome) -> None:
    client = outcome.client
    assert 20 < client.successor.connections[0].since - client.at < 36


def test_until_then_every_other_consumer_is_refused(outcome: Outcome) -> None:
    assert {refused.code for refused in outcome.client.successor.refusals} == {"ACTIVE_CONSUMER_EXISTS"}


def test_what_it_did_not_get_its_successor_gets(outcome: Outcome) -> None:
    client = outcome.client
    assert set(client.lost.log) | set(client.successor.log) == set(outcome.published["lost"])
    assert len(outcome.published["lost"]) == len(outcome.committed["lost"])
