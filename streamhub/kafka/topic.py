"""The topic that events go to: made where it is missing, examined where it is there.

One topic, not one for each table: order within an organization is what readers need, and it exists only within a
partition. What is wrong with its settings is told in a sentence, with the command that fixes it.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, NamedTuple

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from streamhub.kafka.brokers import NOT_ALLOWED, AwayError, Brokers, RefusedError

PARTITIONS: Final = 12
REPLICAS: Final = 3  # where there are as many brokers
RETENTION: Final = "604800000"  # milliseconds: 7 days. History keeps the events for readers that are further behind
OVERHEAD: Final = 16 * 1024  # bytes that a record and its batch have beside the event: its headers and key
TIMEOUT: Final = 5.0  # seconds
NEEDED: Final = "Describe, DescribeConfigs and Write on the topic"


ERRORS: Final = (AwayError, KafkaError, OSError)
"""What the functions here raise: the brokers are away, or refuse."""


class TopicProblem(NamedTuple):
    """What is wrong with a topic, and the command that fixes it."""

    what: str
    fix: str


class Topic(NamedTuple):
    """As it was found. `max_message_bytes` bounds a batch of records."""

    name: str
    partitions: int
    max_message_bytes: int
    problems: Sequence[TopicProblem]


def limit_for(max_event_bytes: int) -> int:
    """What `max.message.bytes` has to be, so that any event fits."""
    return max_event_bytes + OVERHEAD


async def find_topic(brokers: Brokers, name: str, max_event_bytes: int) -> Topic | None:
    """The topic as it is; None where there is none. Raises ERRORS."""
    async with _admin(brokers) as admin:
        return await _find(admin, brokers, name, max_event_bytes)


async def open_topic(brokers: Brokers, name: str, max_event_bytes: int) -> Topic:
    """As `find_topic`, but it is made if it is missing."""
    async with _admin(brokers) as admin:
        found = await _find(admin, brokers, name, max_event_bytes)
        if found is None:
            await _create(admin, brokers, name, max_event_bytes)
            while (found := await _find(admin, brokers, name, max_event_bytes)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0.1)  # until the broker that is asked knows of it
        return found


@asynccontextmanager
async def _admin(brokers: Brokers) -> AsyncIterator[Any]:
    admin = AIOKafkaAdminClient(**brokers.options, request_timeout_ms=int(TIMEOUT * 1000))
    try:
        async with brokers.reached():
            async with asyncio.timeout(2 * TIMEOUT):
                await admin.start()
                yield admin
    finally:
        with suppress(TimeoutError, OSError, KafkaError):
            await asyncio.wait_for(admin.close(), 1)


async def _find(admin: Any, brokers: Brokers, name: str, max_event_bytes: int) -> Topic | None:
    # First: what a client may not see is not in any list, and this says so.
    (answer,) = await admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, name)])
    (resource,) = answer.resources
    if issubclass(for_code(resource[0]), NOT_ALLOWED):
        raise RefusedError(brokers.not_allowed(f"see topic {name} and its settings", NEEDED))
    # All names: to ask for one by name may make it, with the brokers' defaults.
    if name not in await admin.list_topics():
        return None
    (described,) = await admin.describe_topics([name])
    replicas = [len(partition["replicas"]) for partition in described["partitions"]]
    partitions = len(replicas)
    if resource[0] or described["error_code"] or not partitions:
        error = for_code(resource[0] or described["error_code"])()
        if getattr(error, "retriable", False) or not partitions:
            return None
        raise error
    settings = {entry[0]: entry[1] for entry in resource[4]}
    limit = int(settings["max.message.bytes"])
    problems = _problems(brokers, name, settings, max_event_bytes)
    problem = _too_few(brokers, name, min(replicas), int(settings["min.insync.replicas"]))
    if problem is not None and len((await admin.describe_cluster())["brokers"]) > 1:
        problems.append(problem)
    return Topic(name, partitions, limit, problems)


def _problems(brokers: Brokers, name: str, settings: dict[str, str], max_event_bytes: int) -> list[TopicProblem]:
    alter = f"kafka-configs --bootstrap-server {brokers.bootstrap[0]} --alter --topic {name} --add-config"
    problems = []
    wanted = limit_for(max_event_bytes)
    if int(settings["max.message.bytes"]) < wanted:
        problems.append(
            TopicProblem(
                f"max.message.bytes of topic {name} is {settings['max.message.bytes']}, and an event may have "
                f"{max_event_bytes} bytes (MAX_EVENT_BYTES) and its headers: set it to {wanted} or more",
                f"{alter} max.message.bytes={wanted}",
            )
        )
    if settings["cleanup.policy"] != "delete":
        problems.append(
            TopicProblem(
                f"cleanup.policy of topic {name} is {settings['cleanup.policy']}, which keeps of an organization's "
                "events only the last: set it to delete",
                f"{alter} cleanup.policy=delete",
            )
        )
    return problems


def _too_few(brokers: Brokers, name: str, replicas: int, in_sync: int) -> TopicProblem | None:
    """Of several brokers, one that is away stops such a topic."""
    if replicas == 1:
        return TopicProblem(
            f"topic {name} has one replica: while its broker is away, nothing is published and streams come from "
            "history",
            "give it more with kafka-reassign-partitions, or delete the topic: the relay makes it again",
        )
    if in_sync >= replicas:
        return TopicProblem(
            f"min.insync.replicas of topic {name} is {in_sync}, of {replicas} replicas: while one broker is away, "
            "nothing is published and streams come from history",
            f"kafka-configs --bootstrap-server {brokers.bootstrap[0]} --alter --topic {name} --add-config "
            f"min.insync.replicas={replicas - 1}",
        )
    return None


async def _create(admin: Any, brokers: Brokers, name: str, max_event_bytes: int) -> None:
    replicas = min(REPLICAS, len((await admin.describe_cluster())["brokers"]))
    topic = NewTopic(
        name,
        PARTITIONS,
        replicas,
        topic_configs={
            "max.message.bytes": str(limit_for(max_event_bytes)),
            "min.insync.replicas": str(max(1, replicas - 1)),
            "cleanup.policy": "delete",
            "retention.ms": RETENTION,
        },
    )
    answer = await admin.create_topics([topic], timeout_ms=int(TIMEOUT * 1000))
    for _, code, *rest in answer.topic_errors:
        error = for_code(code)
        if issubclass(error, NOT_ALLOWED):
            raise RefusedError(
                brokers.not_allowed(f"make topic {name}", f"Create, beside {NEEDED}, or make it by hand")
            )
        if code and error is not TopicAlreadyExistsError:
            raise error(f"topic {name} cannot be made: {rest[0] if rest and rest[0] else error.__name__}")
