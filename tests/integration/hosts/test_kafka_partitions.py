"""Links to Kafka that swallow packets: a gateway's, then that gateway's to the database too, and the leading relay's,
so that another gateway that reaches everything finds nothing new in the topic.

One run; the tests look at what came of it.
"""

import asyncio
import itertools
import json
import time
from typing import Any, NamedTuple

import pytest

from servers.kafka import Broker, NoBrokerError
from tests.conftest import no_kafka
from tests.integration.hosts.scene import Scene, scene
from tests.support.consumer import Consumer, consuming
from tests.support.hub import Process, traffic, until
from tests.support.network import Host

CUT_FOR = 8.0  # seconds: longer than the lease, and than it takes to go over to history


class Cut(NamedTuple):
    """Times of time.monotonic(). `readiness` is what the gateway said of itself meanwhile."""

    at: float
    restored: float
    recovered: float
    readiness: dict[str, Any]

    def pauses(self, times: list[float]) -> list[float]:
        """Between what came while the links were cut, and until they were restored."""
        inside = [at for at in times if self.at < at < self.restored]
        return [later - earlier for earlier, later in itertools.pairwise([self.at, *inside, self.restored])]


class Outcome(NamedTuple):
    """`near` and `far` consume from two gateways. The near one was cut off `from_kafka` alone, then `from_both`, while
    the leading relay was cut off from Kafka."""

    near: Consumer
    far: Consumer
    from_kafka: Cut
    from_both: Cut
    published: dict[str, list[str]]


@pytest.fixture(scope="module")
async def outcome(tmp_path_factory: pytest.TempPathFactory, namespaces: None) -> Outcome:
    async with scene(tmp_path_factory.mktemp("hosts")) as stage:
        kafka = stage.net.host("kafka")
        try:
            broker = Broker(kafka.address)
        except NoBrokerError as error:
            no_kafka(error)
        try:
            await kafka.do(broker.start)
            return await _play(stage, kafka, broker.bootstrap)
        finally:
            await kafka.do(broker.close)


async def _play(stage: Scene, kafka: Host, bootstrap: str) -> Outcome:
    gateway = await stage.start("gw1", "gateway", kafka_bootstrap_servers=bootstrap)
    await stage.hub.prepare()
    _, other = await stage.start("gw2", "gateway", kafka_bootstrap_servers=bootstrap)
    relay, _ = await stage.start("relay1", "relay", kafka_bootstrap_servers=bootstrap)
    hub, clients = stage.hub, stage.net.host("clients")
    near = Consumer(hub, [gateway[1]], "near", at=clients)
    far = Consumer(hub, [other], "far", at=clients)
    async with consuming(near), consuming(far):
        async with traffic(hub.url, ["near", "far"], 50):
            await until(lambda: len(near.log) > 50 and len(far.log) > 50, "the streams are under way")
            await until(lambda: _follows(stage, clients, gateway[1], other), "the topic brings them")
            from_kafka = await _cut(stage, clients, gateway[1], other, [(gateway[0], kafka)])
            links = [(gateway[0], kafka), (gateway[0], stage.database), (relay, kafka)]
            from_both = await _cut(stage, clients, gateway[1], other, links)
        await until(hub.is_all_published, "everything is published")
        published = {each.organization: await hub.published(each.organization) for each in (near, far)}
        for each in (near, far):
            await until(lambda: each.has(published[each.organization][-1]), "the last event is there")  # noqa: B023
    return Outcome(near, far, from_kafka, from_both, published)


async def _cut(stage: Scene, clients: Host, gateway: Process, other: Process, links: list[tuple[Host, Host]]) -> Cut:
    for link in links:
        stage.net.cut(*link)
    at = time.monotonic()
    await asyncio.sleep(CUT_FOR - 2)
    readiness = json.loads((await stage.ask(clients, gateway, "/-/ready")).body)
    await asyncio.sleep(max(0, at + CUT_FOR - time.monotonic()))
    for link in links:
        stage.net.restore(*link)
    restored = time.monotonic()
    await until(lambda: _follows(stage, clients, gateway, other), "the topic brings their events again")
    return Cut(at, restored, time.monotonic(), readiness)


async def _follows(stage: Scene, clients: Host, *gateways: Process) -> bool:
    """These gateways serve, and have their events from the topic."""
    answers = [await stage.ask(clients, gateway, "/-/ready") for gateway in gateways]
    return all(answer.status == 200 and json.loads(answer.body)["tail"] == "ok" for answer in answers)


def test_a_gateway_cut_off_from_kafka_feeds_its_streams_from_history(outcome: Outcome) -> None:
    pauses = outcome.from_kafka.pauses(outcome.near.connections[0].times)
    assert max(pauses) < 4, pauses


def test_it_stays_ready_and_says_what_is_the_matter(outcome: Outcome) -> None:
    told = outcome.from_kafka.readiness
    assert (told["status"], told["database"], told["tail"]) == ("ready", "ok", "degraded")


def test_a_gateway_cut_off_from_both_sends_heartbeats_alone(outcome: Outcome) -> None:
    (connected,) = outcome.near.connections
    assert max(outcome.from_both.pauses(connected.times)) > CUT_FOR - 2
    assert max(outcome.from_both.pauses(connected.heartbeats)) < 3


def test_it_is_not_ready(outcome: Outcome) -> None:
    told = outcome.from_both.readiness
    assert (told["status"], told["database"]) == ("not ready", "unreachable")


def test_where_the_relay_is_cut_off_from_kafka_other_gateways_feed_their_streams_from_history(outcome: Outcome) -> None:
    pauses = outcome.from_both.pauses(outcome.far.connections[0].times)
    assert max(pauses) < 4, pauses


@pytest.mark.parametrize("cut", ["from_kafka", "from_both"])
def test_once_the_links_are_back_the_topic_brings_everything_again_within_seconds(outcome: Outcome, cut: str) -> None:
    found: Cut = getattr(outcome, cut)
    assert found.recovered - found.restored < 15


@pytest.mark.parametrize("which", ["near", "far"])
def test_each_consumer_has_all_in_order_once_on_one_connection(outcome: Outcome, which: str) -> None:
    consumer: Consumer = getattr(outcome, which)
    assert len(consumer.connections) == 1
    assert consumer.log == outcome.published[which]
