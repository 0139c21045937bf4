"""Brokers that want to know who comes: what lets us in, and what is said by log, readiness and doctor where it does
not, while streams go on from history."""

import asyncio
import json
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka.conn import create_conn
from aiokafka.protocol.admin import CreateAclsRequest

from servers.access import Access, Authority
from servers.kafka import Broker
from streamhub.config import Settings
from streamhub.health.doctor import examine
from streamhub.health.findings import Finding
from streamhub.kafka import consumer, publisher
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.consumer import TopicReader
from streamhub.kafka.tail import KafkaTail
from tests.integration.conftest import Hub
from tests.support.publishing import following
from tests.support.stage import until
from tests.support.tasks import ended
from tests.support.topics import Broadcasting, create

READ, WRITE, CREATE, DESCRIBE, DESCRIBE_CONFIGS = 3, 4, 5, 8, 10  # as brokers number operations
ALL = (READ, WRITE, CREATE, DESCRIBE, DESCRIBE_CONFIGS)
TOPIC, LITERAL, ALLOW = 2, 3, 3

Make = Callable[..., Brokers]


async def allow(broker: Broker, topic: str, *operations: int, user: str = "User:hub") -> None:
    connection = await create_conn(broker.address, broker.port)
    for operation in operations:
        answer = await connection.send(CreateAclsRequest(TOPIC, topic, LITERAL, user, "*", operation, ALLOW))
        assert not answer.creation_responses[0][0], answer
    connection.close()


@pytest.fixture
async def stage(database_url: str, broker: Broker, topic: str) -> AsyncIterator[Broadcasting]:
    connection = await asyncpg.connect(database_url)
    yield Broadcasting(database_url, connection, broker.bootstrap, topic)
    connection.terminate()


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tenths of seconds in place of seconds."""
    for module in (publisher, consumer):
        monkeypatch.setattr(module, "PAUSE_FIRST", 0.05)
        monkeypatch.setattr(module, "PAUSE_LONGEST", 0.2)


def settings_for(broker: Broker, access: Access, protocol: str, mechanism: str | None = None, **more: Any) -> Any:
    tls = {"kafka_ssl_ca_file": access.authority.certificate} if protocol.endswith("SSL") else {}
    user = {"kafka_sasl_username": "hub", "kafka_sasl_password": access.users["hub"]} if mechanism else {}
    return {
        "kafka_bootstrap_servers": (broker.listeners[protocol],),
        "kafka_security_protocol": protocol,
        "kafka_sasl_mechanism": mechanism,
        **tls,
        **user,
        **more,
    }


# -- who is let in

WAYS = [
    ("SSL", None),
    *(
        (protocol, mechanism)
        for protocol in ("SASL_PLAINTEXT", "SASL_SSL")
        for mechanism in ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
    ),
]


@pytest.mark.parametrize(("protocol", "mechanism"), WAYS)
async def test_events_go_to_the_topic_and_come_from_it_by_every_way_in(
    stage: Broadcasting, broker: Broker, access: Access, pool: Any, protocol: str, mechanism: str | None
) -> None:
    more: dict[str, Any] = {}
    user = "User:hub"
    if protocol == "SSL":
        more["kafka_ssl_cert_file"], more["kafka_ssl_key_file"] = access.authority.issue("streamhub")
        user = "User:CN=streamhub"
    await allow(broker, stage.topic, *ALL, user=user)
    stage.brokers = Brokers.of(Settings(**settings_for(broker, access, protocol, mechanism, **more)))
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 3)
        await stage.published()
        tail = KafkaTail(pool, stage.brokers, stage.topic, look_every=60.0)  # history would take a minute
        await tail.start()
        key = await stage.value("SELECT key FROM streamhub_hub.organizations WHERE id = 'org_1'")
        async with following(pool, tail, key, id="org_1") as reader:
            await until(lambda: _follows(tail), "the partition is followed")
            await stage.write(10, 3)
            await stage.published()
            await reader.has(
                *[row[0] for row in await stage.rows(
                    "SELECT id::text FROM streamhub_hub.history WHERE organization = $1 ORDER BY id", key
                )]
            )  # fmt: skip
        await tail.stop()
    await stage.audited()


async def _follows(tail: KafkaTail) -> bool:
    return bool(tail.followed)


# -- who is refused


def wrong_password(broker: Broker, access: Access, _: Path) -> dict[str, Any]:
    return settings_for(broker, access, "SASL_SSL", "SCRAM-SHA-256", kafka_sasl_password="wrong-one")


def wrong_password_in_plain(broker: Broker, access: Access, _: Path) -> dict[str, Any]:
    return settings_for(broker, access, "SASL_PLAINTEXT", "PLAIN", kafka_sasl_password="wrong-one")


def wrong_ca(broker: Broker, access: Access, directory: Path) -> dict[str, Any]:
    other = Authority(directory, "other")
    return settings_for(broker, access, "SASL_SSL", "SCRAM-SHA-256", kafka_ssl_ca_file=other.certificate)


def no_tls(broker: Broker, access: Access, _: Path) -> dict[str, Any]:
    where = (broker.listeners["SASL_SSL"],)
    return settings_for(broker, access, "SASL_PLAINTEXT", "SCRAM-SHA-256", kafka_bootstrap_servers=where)


def no_right(broker: Broker, access: Access, _: Path) -> dict[str, Any]:
    who = {"kafka_sasl_username": "stranger", "kafka_sasl_password": access.users["stranger"]}
    return settings_for(broker, access, "SASL_SSL", "SCRAM-SHA-512", **who)


REFUSED = [
    (wrong_password, "refuses the user 'hub' (STREAMHUB_KAFKA_SASL_USERNAME)"),
    (wrong_password_in_plain, "refuses the user 'hub' (STREAMHUB_KAFKA_SASL_USERNAME)"),
    (wrong_ca, "is not trusted"),
    (no_tls, "STREAMHUB_KAFKA_SECURITY_PROTOCOL is SASL_PLAINTEXT"),
    (no_right, "do not let the user 'stranger'"),
]
each_refusal = pytest.mark.parametrize(("how", "sentence"), REFUSED, ids=[how.__name__ for how, _ in REFUSED])


@pytest.fixture
async def published(stage: Broadcasting) -> Broadcasting:
    """The topic is there, with events in it; the next client may be refused."""
    await stage.shop()
    async with stage.relaying():
        await stage.started()
        await stage.write(1, 10)
        await stage.published()
    return stage


def one_sentence(text: str, sentence: str) -> bool:
    assert "\n" not in text
    assert not any(secret in text for secret in ("wrong-one", "another-one", "its-password", "Error("))
    return sentence in text


@each_refusal
async def test_a_relay_that_is_refused_says_so_once_and_history_goes_on(
    published: Broadcasting, broker: Broker, access: Access, tmp_path: Path, caplog: Any, how: Any, sentence: str
) -> None:
    stage = published
    stage.brokers = Brokers.of(Settings(**how(broker, access, tmp_path)))
    tries: list[None] = []
    refused = stage.new_publisher()
    refused._failed = lambda: tries.append(None)
    async with stage.relaying_with(refused):
        caplog.set_level(logging.WARNING, "streamhub")
        await stage.write(100, 10)
        await stage.drained()
        await until(lambda: _at_least(tries, 4), "it is tried again and again", 60)
        fault = await stage.fault()
    assert one_sentence(fault or "", sentence)
    lines = [line for line in caplog.messages if sentence in line]
    assert len(lines) == 1
    assert one_sentence(lines[0], "no events lost")


async def _at_least(tries: Sequence[None], many: int) -> bool:
    return len(tries) >= many


@each_refusal
async def test_a_gateway_that_is_refused_says_so_and_its_streams_go_on_from_history(
    published: Broadcasting, broker: Broker, access: Access, tmp_path: Path, caplog: Any, how: Any, sentence: str,
    start_hub: Callable[..., Awaitable[Hub]], pool: Any,
) -> None:  # fmt: skip
    stage = published
    settings = how(broker, access, tmp_path)
    caplog.set_level(logging.WARNING, "streamhub")
    hub = await start_hub(**settings, kafka_topic=stage.topic, brokers=(Brokers.of(Settings(**settings)), stage.topic))
    key = await stage.value("SELECT key FROM streamhub_hub.organizations WHERE id = 'org_1'")
    async with following(pool, hub.tail, key, id="org_1") as reader:
        await until(lambda: _says(hub, sentence), "readiness names it", 30)
        async with stage.relaying():
            await stage.write(100, 10)
            await stage.published()
        await reader.has(
            *[row[0] for row in await stage.rows(
                "SELECT id::text FROM streamhub_hub.history WHERE organization = $1 ORDER BY id", key
            )]
        )  # fmt: skip
    lines = [line for line in caplog.messages if sentence in line]
    assert len(lines) == 1
    assert one_sentence(lines[0], "streams go on from history")


async def _says(hub: Hub, sentence: str) -> bool:
    answer = await hub.get("/-/ready", token="")
    body = json.loads(answer.body)
    return answer.status == 200 and body["tail"] == "degraded" and one_sentence(body["broker"], sentence)


async def findings(stage: Broadcasting, settings: dict[str, Any]) -> list[Finding]:
    found = await examine(Settings(database_url=stage.url, kafka_topic=stage.topic, **settings))
    return [finding for finding in found if finding.check == "kafka"]


@each_refusal
async def test_doctor_names_a_refusal(
    stage: Broadcasting, broker: Broker, access: Access, tmp_path: Path, how: Any, sentence: str
) -> None:
    await create(stage.bootstrap, stage.topic, 1)
    refusal, *_ = await findings(stage, how(broker, access, tmp_path))
    assert (refusal.state, one_sentence(refusal.detail, sentence)) == ("fail", True)


# -- a right that is missing

RIGHTS = [
    ((WRITE, DESCRIBE, READ), "grant it Describe, DescribeConfigs and Write"),
    ((DESCRIBE, DESCRIBE_CONFIGS, READ), "grant it Write on the topic"),
    ((), "grant it Describe, DescribeConfigs and Write"),
]


@pytest.mark.parametrize(("rights", "sentence"), RIGHTS, ids=["no DescribeConfigs", "no Write", "none"])
async def test_the_right_that_a_relay_lacks_is_named_and_granting_it_is_enough(
    stage: Broadcasting, broker: Broker, access: Access, rights: tuple[int, ...], sentence: str
) -> None:
    await create(stage.bootstrap, stage.topic, 3, max_message_bytes="20000000")
    await stage.shop()
    async with stage.relaying():
        await stage.started()
    await allow(broker, stage.topic, *rights)
    stage.brokers = Brokers.of(Settings(**settings_for(broker, access, "SASL_SSL", "SCRAM-SHA-256")))
    async with stage.relaying():
        await stage.write(1, 10)
        await until(lambda: _faults(stage, sentence), "the right is named", 30)
        await allow(broker, stage.topic, DESCRIBE, DESCRIBE_CONFIGS, WRITE)
        await stage.published()
    await stage.audited()


async def _faults(stage: Broadcasting, sentence: str) -> bool:
    fault = await stage.fault()
    return fault is not None and one_sentence(fault, sentence)


async def test_a_relay_that_may_not_make_the_topic_says_so(
    stage: Broadcasting, broker: Broker, access: Access, caplog: pytest.LogCaptureFixture
) -> None:
    await allow(broker, stage.topic, DESCRIBE, DESCRIBE_CONFIGS, WRITE)
    stage.brokers = Brokers.of(Settings(**settings_for(broker, access, "SASL_SSL", "SCRAM-SHA-256")))
    await stage.shop()
    async with stage.relaying():
        caplog.set_level(logging.WARNING, "streamhub")
        await until(lambda: _logged(caplog, f"make topic {stage.topic}: grant it Create"), "it is said", 30)


async def _logged(caplog: pytest.LogCaptureFixture, text: str) -> bool:
    return text in caplog.text


async def test_a_gateway_that_may_not_read_says_so_in_readiness_and_doctor(
    published: Broadcasting, broker: Broker, access: Access, pool: Any
) -> None:
    stage = published
    await allow(broker, stage.topic, DESCRIBE, DESCRIBE_CONFIGS)
    settings = settings_for(broker, access, "SASL_SSL", "SCRAM-SHA-256")
    tail = KafkaTail(pool, Brokers.of(Settings(**settings)), stage.topic)
    await tail.start()
    key = await stage.value("SELECT key FROM streamhub_hub.organizations WHERE id = 'org_1'")
    async with following(pool, tail, key, id="org_1"):
        await until(lambda: _is_refused(tail, "grant it Read"), "it is told", 30)
    await tail.stop()
    refusal, *_ = await findings(stage, settings)
    assert (refusal.state, one_sentence(refusal.detail, "grant it Read")) == ("fail", True)


async def _is_refused(tail: KafkaTail, sentence: str) -> bool:
    return tail.fault is not None and one_sentence(tail.fault, sentence)


# -- for how long it is tried


async def test_the_topic_is_tried_for_as_long_as_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    tries: list[None] = []

    class Nowhere:
        async def __aenter__(self) -> None:
            tries.append(None)
            raise ssl.SSLError("nothing")

        async def __aexit__(self, *_: object) -> None:
            pass

    monkeypatch.setattr(TopicReader, "_connected", lambda _: Nowhere())
    monkeypatch.setattr(consumer, "PAUSE_FIRST", 0.00001)
    monkeypatch.setattr(consumer, "PAUSE_LONGEST", 0.00001)
    monkeypatch.setattr(logging.getLogger(consumer.__name__), "disabled", True)
    follower: Any = None
    running = asyncio.create_task(TopicReader(Brokers(["127.0.0.1:1"]), "t", follower).run())
    await until(lambda: _at_least(tries, 2_000), "more tries than two to the power of them can be counted", 30)
    await ended(running)
