"""Reading some partitions of a Kafka topic, each from an offset of its own, for as long as the process runs.

No consumer group: the follower says which partitions, and where to begin. Whatever error a consumer has, the next one
begins with a new connection. In between, and while a broker leaves a fetch without an answer, the topic is `silent`.

Memory: for each broker aiokafka holds FETCH_BYTES, or one batch of records where that is larger, once for what is
handed over and once for what is under way.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError, OffsetOutOfRangeError
from aiokafka.partitioner import murmur2

from streamhub.backoff import Backoff
from streamhub.kafka.brokers import NOT_ALLOWED, AwayError, Brokers, RefusedError

log = logging.getLogger(__name__)

BROKER_WITHIN: Final = 5.0  # seconds for any answer of the broker
ANSWERED_LATELY: Final = 1.0  # seconds; a fetch without records comes back after FETCH_WAIT
STOPPED_WITHIN: Final = 2.0
FETCH_WAIT: Final = 0.2  # seconds; a partition that is added waits for the fetch that is under way
FETCH_BYTES: Final = 8 * 2**20
PARTITION_BYTES: Final = 4 * 2**20
RECORDS_AT_ONCE: Final = 500  # between two turns of the event loop
PAUSE_FIRST: Final = 0.5  # seconds between two consumers
PAUSE_LONGEST: Final = 5.0
RIGHTS: Final = "Read and Describe on the topic"
SAID_EVERY: Final = 60.0  # seconds between two lines about a fault that lasts


def partition_of(key: bytes, partitions: int) -> int:
    """Where every Kafka client's default partitioner puts a key."""
    return int(murmur2(key) & 0x7FFFFFFF) % partitions


class Follower(Protocol):
    async def join(self) -> None:
        """Called for each new consumer, which reads nothing yet, and cancelled with it. Raises what ends it."""

    def take(self, number: int, records: Sequence[ConsumerRecord]) -> None:
        """The next records of a partition."""

    def lost(self, number: int, why: str) -> None:
        """The broker does not have what the partition is to go on with; it is not read any more."""


class TopicReader:
    """`fault`: why the topic cannot be read, in a sentence; None while it can."""

    def __init__(self, brokers: Brokers, name: str, follower: Follower) -> None:
        self.name = name
        self.fault: str | None = None
        self._brokers = brokers
        self._follower = follower
        self._consumer: AIOKafkaConsumer | None = None
        self._assigned = asyncio.Event()
        self._assigned_at = 0.0  # of the wall's clock, as aiokafka has its own

    async def run(self) -> None:
        """One consumer after the other, until cancelled."""
        pause = Backoff(PAUSE_FIRST, PAUSE_LONGEST, steady_after=SAID_EVERY)
        said, said_at = "", float("-inf")
        while True:
            began = time.monotonic()
            try:
                # In a task of its own: before Python 3.13 a task whose group failed counts as cancelled ever after.
                await asyncio.create_task(self._read())
            except Exception as error:  # noqa: BLE001 - whatever it is, the topic has to be read again
                now = time.monotonic()
                if now - began > SAID_EVERY:
                    said = ""
                self.fault = await self._told(error)
                if self.fault != said or now - said_at > SAID_EVERY:
                    said, said_at = self.fault, now
                    log.warning(
                        "topic %s cannot be read, retrying; streams go on from history: %s", self.name, self.fault
                    )
            await pause.sleep(time.monotonic() - began)

    async def _read(self) -> None:
        """With one consumer, until that fails."""
        async with self._connected() as consumer, asyncio.TaskGroup() as tasks:
            tasks.create_task(self._follower.join())
            tasks.create_task(self._fetch(consumer))

    async def _told(self, error: BaseException) -> str:
        """An error in a sentence; of several, the first."""
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        if isinstance(error, NOT_ALLOWED):
            return self._brokers.not_allowed(f"read topic {self.name}", RIGHTS)
        if isinstance(error, TimeoutError | KafkaTimeoutError):
            error = await self._brokers.why_away()
        return str(error) if isinstance(error, AwayError) else repr(error)

    @property
    def silent(self) -> bool:
        """Whether a broker does not answer."""
        consumer = self._consumer
        if consumer is None:
            return True
        since = time.time() - ANSWERED_LATELY
        if self._assigned_at > since:
            return False
        answers = (consumer.last_poll_timestamp(place) for place in consumer.assignment() - consumer.paused())
        return any((answered or 0) < since * 1000 for answered in answers)

    async def ends(self, numbers: Iterable[int]) -> dict[int, int]:
        """The offset of the next record of each partition. Raises KafkaError or TimeoutError."""
        if self._consumer is None:
            raise TimeoutError("no broker is connected")
        try:
            async with asyncio.timeout(BROKER_WITHIN):
                found = await self._consumer.end_offsets([self._at(number) for number in numbers])
        except (TimeoutError, KafkaTimeoutError):
            await self._require_seen(self._consumer)
            raise
        return {place.partition: offset for place, offset in found.items()}

    async def _require_seen(self, consumer: AIOKafkaConsumer) -> None:
        """What a client may not see is not in the list. Raises RefusedError and TimeoutError."""
        if self.name not in await asyncio.wait_for(consumer.topics(), BROKER_WITHIN):
            raise RefusedError(self._brokers.not_allowed(f"see topic {self.name}, or it is not there", RIGHTS))

    def follow(self, positions: Mapping[int, int]) -> None:
        """From now on read these partitions alone, each from an offset on."""
        if self._consumer is not None and positions:
            self._consumer.assign([self._at(number) for number in positions])
            for number, offset in positions.items():
                self._consumer.seek(self._at(number), offset)
            self._assigned_at = time.time()
            self._assigned.set()

    def leave(self, number: int) -> None:
        """Read that partition no more."""
        if self._consumer is not None and self._at(number) in self._consumer.assignment():
            self._consumer.pause(self._at(number))

    def end_seen(self, number: int) -> int:
        """Where a followed partition ended when the broker last told; 0 where it has not."""
        if self._consumer is None or self._at(number) not in self._consumer.assignment():
            return 0
        return self._consumer.highwater(self._at(number)) or 0

    def _at(self, number: int) -> TopicPartition:
        return TopicPartition(self.name, number)

    @contextlib.asynccontextmanager
    async def _connected(self) -> AsyncIterator[AIOKafkaConsumer]:
        consumer = AIOKafkaConsumer(
            **self._brokers.options,
            client_id="streamhub-gateway",
            auto_offset_reset="none",
            enable_auto_commit=False,
            fetch_max_wait_ms=int(FETCH_WAIT * 1000),
            fetch_max_bytes=FETCH_BYTES,
            max_partition_fetch_bytes=PARTITION_BYTES,
            request_timeout_ms=int(BROKER_WITHIN * 1000),
            metadata_max_age_ms=60_000,
        )
        try:
            async with self._brokers.reached(), asyncio.timeout(2 * BROKER_WITHIN):
                await consumer.start()
            self._assigned.clear()
            self._consumer = consumer
            yield consumer
        finally:
            self._consumer = None
            # A fetch that waits to try again, when it is cancelled, ends stop() before any connection is closed.
            for close in (consumer.stop, consumer._client.close):  # noqa: SLF001
                closing = asyncio.ensure_future(close())
                closing.add_done_callback(lambda done: done.cancelled() or done.exception())
                await asyncio.wait({closing}, timeout=STOPPED_WITHIN)
                closing.cancel()

    async def _fetch(self, consumer: AIOKafkaConsumer) -> None:
        """Raises KafkaError, and TimeoutError where the broker has not answered for BROKER_WITHIN."""
        await self._assigned.wait()
        answered = time.monotonic()
        while True:
            found: dict[TopicPartition, Any] = {}
            try:
                found = await consumer.getmany(timeout_ms=1000, max_records=RECORDS_AT_ONCE)
            except OffsetOutOfRangeError as error:
                for place, offset in error.args[0].items():
                    self.leave(place.partition)
                    self._follower.lost(place.partition, f"the broker does not have offset {offset}")
            for place, records in found.items():
                self._follower.take(place.partition, records)
            if found or not self.silent:
                answered = time.monotonic()
                self.fault = None
            elif time.monotonic() - answered > BROKER_WITHIN:
                raise TimeoutError(f"no answer for {BROKER_WITHIN:.0f} s")
            await asyncio.sleep(0)


async def require_readable(brokers: Brokers, name: str) -> None:
    """Raises RefusedError where this topic may not be read, AwayError and KafkaError where it cannot be told."""
    consumer = AIOKafkaConsumer(**brokers.options, enable_auto_commit=False, fetch_max_wait_ms=int(FETCH_WAIT * 1000))
    try:
        async with brokers.reached(), asyncio.timeout(BROKER_WITHIN):
            await consumer.start()
            consumer.assign([TopicPartition(name, 0)])
            await consumer.seek_to_end()
            await consumer.getmany(timeout_ms=int(2 * FETCH_WAIT * 1000))
    except NOT_ALLOWED:
        raise RefusedError(brokers.not_allowed(f"read topic {name}", RIGHTS)) from None
    finally:
        with contextlib.suppress(TimeoutError, OSError, KafkaError):
            await asyncio.wait_for(consumer.stop(), STOPPED_WITHIN)
