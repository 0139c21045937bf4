"""One run of records: what a single producer sends, contiguous from a position at or below the acknowledged one.

Whatever goes wrong ends the run. The next one begins at what was acknowledged, so that a topic may hold a piece of a
run twice, with the same ids and bytes, but never an event without the one before it:

* a piece is acknowledged as a whole before the next one is sent, and a partition's batches go one by one; while a piece
  is under way the next one is made ready;
* `streamhub_after` names the run's beginning in the first record of each partition, then the record before.
"""

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from streamhub.cancellation import ended
from streamhub.core.events import StoredEvent
from streamhub.core.record_batch import Recorder
from streamhub.kafka.brokers import NOT_ALLOWED, Brokers
from streamhub.kafka.consumer import partition_of
from streamhub.kafka.record_batch import RecordBatch
from streamhub.kafka.topic import Topic

BATCH_BYTES: Final = 2048 * 1024
SENT_WITHIN: Final = 10.0  # seconds for a batch of each partition; then the brokers count as away
CLOSED_WITHIN: Final = 0.5
METADATA_EVERY: Final = 5_000  # milliseconds: how soon a change of the partitions is seen
_SLICE: Final = 100  # records made between two turns of the event loop: about half a millisecond


class RunError(Exception):
    """The run has ended; the message says by what."""


class Run:
    """`taken` is the id up to which events were handed over, `acknowledged` the one up to which brokers have them all.
    `open` before anything else, `close` in any case."""

    def __init__(self, brokers: Brokers, topic: Topic, start: str) -> None:
        self.taken = self.acknowledged = start
        self._brokers = brokers
        self._topic = topic
        most_bytes = min(BATCH_BYTES, topic.max_message_bytes)
        self._recorder = Recorder(
            start,
            lambda key: partition_of(key, topic.partitions),
            lambda: RecordBatch(most_bytes),
        )
        self._producer: Any = None
        self._sending: asyncio.Task[None] | None = None

    async def open(self) -> None:
        """Raises AwayError where no broker answers, and other KafkaErrors."""
        self._producer = AIOKafkaProducer(
            **self._brokers.options,
            client_id="streamhub-publisher",
            enable_idempotence=True,
            acks="all",
            request_timeout_ms=int(SENT_WITHIN * 1000),
            metadata_max_age_ms=METADATA_EVERY,
        )
        async with self._brokers.reached():
            async with asyncio.timeout(SENT_WITHIN):
                try:
                    await self._producer.start()
                    await self._producer.partitions_for(self._topic.name)
                except NOT_ALLOWED:
                    raise RunError(self._not_allowed) from None

    @property
    def redivided(self) -> bool:
        """The topic has another number of partitions by now."""
        known = self._producer.client.cluster.partitions_for_topic(self._topic.name)
        return known is not None and len(known) != self._topic.partitions

    async def send(self, events: Sequence[StoredEvent], until: str) -> None:
        """Hand over the next events, which are all that there are up to `until`. Returns once they are on their way and
        the ones before are acknowledged. Raises RunError."""
        batches = await self._batched(events)
        await self.settled()
        self.taken = until
        self._sending = asyncio.create_task(self._send(batches, until))

    async def settled(self) -> None:
        """Everything that was handed over is acknowledged. Raises RunError."""
        if self._sending is not None:
            await self._sending

    async def _send(self, batches: dict[int, list[RecordBatch]], until: str) -> None:
        while batches:
            await self._send_one_each({partition: its.pop(0) for partition, its in batches.items()})
            batches = {partition: its for partition, its in batches.items() if its}
        self.acknowledged = until

    async def _batched(self, events: Sequence[StoredEvent]) -> dict[int, list[RecordBatch]]:
        now = int(time.time() * 1000)
        batches: dict[int, list[RecordBatch]] = {}
        for start in range(0, len(events), _SLICE):
            if start:
                await asyncio.sleep(0)
            self._recorder.add(events[start : start + _SLICE], now, batches)
        for its in batches.values():
            for batch in its:
                if batch.size() > self._topic.max_message_bytes:
                    raise RunError(self._too_large(batch))
        return batches

    @property
    def _not_allowed(self) -> str:
        return self._brokers.not_allowed(f"write to topic {self._topic.name}", "Write on the topic")

    def _too_large(self, batch: RecordBatch) -> str:
        return (
            f"topic {self._topic.name} takes no record of {batch.size()} bytes: its max.message.bytes is "
            f"{self._topic.max_message_bytes}. It is one of the next events after {self.acknowledged}"
        )

    async def _send_one_each(self, batches: dict[int, RecordBatch]) -> None:
        """A batch for each of these partitions; RunError where one of them is not acknowledged in time."""
        sent: dict[asyncio.Future[Any], int] = {}
        try:
            async with asyncio.timeout(SENT_WITHIN):
                for partition, batch in batches.items():
                    sent[await self._producer.send_batch(batch, self._topic.name, partition=partition)] = partition
                await asyncio.wait(sent)
        except NOT_ALLOWED:
            raise RunError(self._not_allowed) from None
        except TimeoutError:
            raise RunError(f"no broker acknowledged a batch within {SENT_WITHIN:.0f} s") from None
        finally:
            for future in sent:
                future.cancel()  # nothing where it is done
        for future, partition in sent.items():
            error = future.exception()
            if isinstance(error, MessageSizeTooLargeError):
                raise RunError(self._too_large(batches[partition]))  # the setting has changed since it was read
            if isinstance(error, NOT_ALLOWED):
                raise RunError(self._not_allowed)
            if error is not None:
                raise RunError(f"partition {partition} of topic {self._topic.name}: {error!r}")

    async def close(self) -> None:
        """Within two seconds, whatever the brokers do; batches that are under way are given up."""
        if self._producer is None:
            return
        producer, self._producer = self._producer, None
        if self._sending is not None:
            await asyncio.wait({self._sending}, timeout=CLOSED_WITHIN)
            await ended(self._sending)
        stopping = asyncio.create_task(producer.stop())
        await asyncio.wait({stopping}, timeout=CLOSED_WITHIN)
        if not stopping.done():
            await _give_up(producer)
            await asyncio.wait({stopping}, timeout=CLOSED_WITHIN)
        await ended(stopping)


async def _give_up(producer: Any) -> None:
    """End a producer with batches under way. There is no public way to: an idempotent producer sends them again for
    ever, and its stop() waits for that."""
    sender, batches = producer._sender.sender_task, producer._message_accumulator  # noqa: SLF001
    for _ in range(2):  # the second time it waits for a request
        if sender is not None and not sender.done():
            sender.cancel()
            await asyncio.wait({sender}, timeout=CLOSED_WITHIN / 2)
    pending = batches._pending_batches  # noqa: SLF001 - where their callbacks look for them
    pending.update(batch for its in batches._batches.values() for batch in its)  # noqa: SLF001
    for batch in tuple(pending):
        batch.future.cancel()
