"""The contract of every Tail. A new engine needs a branch in `engine`, and must pass these tests unchanged."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack

import asyncpg
import pytest

from streamhub.core.events import StoredEvent
from streamhub.history.append import Append
from streamhub.history.pieces import PIECE_ROWS
from streamhub.kafka.brokers import Brokers
from streamhub.kafka.tail import KafkaTail
from streamhub.tail import Tail
from streamhub.tail.postgres import PostgresTail
from tests.support.publishing import Publisher, append_by_hand, publishing

ENGINES = ["postgres", "kafka"]


class Collector:
    """A receiver that notes what it hears."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.fell_behind_to: str | None = None
        self._heard = asyncio.Event()

    def receive(self, events: Sequence[StoredEvent]) -> None:
        self.ids += [event.id for event in events]
        self._heard.set()

    def fell_behind(self, to: str) -> None:
        self.fell_behind_to = to
        self._heard.set()

    async def until(self, condition: Callable[["Collector"], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition(self):
                self._heard.clear()
                await self._heard.wait()

    async def has(self, *wanted: str) -> None:
        """Exactly these, in this order, and then nothing more for a while."""
        await self.until(lambda self: len(self.ids) >= len(wanted))
        await asyncio.sleep(0.1)
        assert self.ids == list(wanted)


class Engine:
    """Tails of one engine over one hub, and a relay that appends for them."""

    def __init__(
        self, pool: "asyncpg.Pool[asyncpg.Record]", url: str, stack: AsyncExitStack, publisher: Publisher | None
    ) -> None:
        self.pool = pool
        self.url = url
        self.stack = stack
        self.publisher = publisher

    async def tail(self) -> Tail:
        tail: PostgresTail | KafkaTail
        if self.publisher is None:
            tail = PostgresTail(self.url, self.pool, poll_every=0.2)
        else:
            tail = KafkaTail(self.pool, Brokers([self.publisher.bootstrap]), self.publisher.topic, look_every=0.2)
        await tail.start()
        self.stack.push_async_callback(tail.stop)
        return tail

    async def append(self, organizations: Sequence[int], *, size: int = 10, notify: bool = True) -> Append:
        """One append with an event for each of these organizations, in this order; unless told otherwise, other
        processes are to hear of it."""
        append = await append_by_hand(self.pool, organizations, size=size, notify=notify)
        if notify and self.publisher is not None:
            await self.publisher.send(append.events)
        return append


@pytest.fixture(params=ENGINES)
async def engine(
    request: pytest.FixtureRequest, pool: "asyncpg.Pool[asyncpg.Record]", database_url: str
) -> AsyncIterator[Engine]:
    async with AsyncExitStack() as stack:
        publisher = None
        if request.param == "kafka":
            publisher = await stack.enter_async_context(publishing(request.getfixturevalue("kafka"), pool))
        yield Engine(pool, database_url, stack, publisher)


@pytest.fixture(params=["announced", "not announced"])
def told(request: pytest.FixtureRequest) -> Callable[[Tail, Append], None]:
    """The relay is in the tail's process and announces, or it is elsewhere."""

    def tell(tail: Tail, append: Append) -> None:
        if request.param == "announced":
            tail.announce(append)

    return tell


Told = Callable[[Tail, Append], None]


async def test_a_receiver_hears_of_an_event_of_its_organization(engine: Engine, told: Told) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    append = await engine.append([1])
    told(tail, append)
    await receiver.has(append.first_id)


async def test_it_hears_of_no_other_organizations_events(engine: Engine, told: Told) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(2, "org_2", receiver)
    append = await engine.append([1, 2, 1])
    told(tail, append)
    await receiver.has(append.events[1].id)


async def test_every_event_comes_once_and_in_order_over_many_appends(engine: Engine, told: Told) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    wanted = []
    for _ in range(50):
        append = await engine.append([1, 2, 1])
        wanted += [append.events[0].id, append.events[2].id]
        told(tail, append)
    await receiver.has(*wanted)


async def test_an_announcement_that_comes_again_is_not_heard_again(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    append = await engine.append([1])
    tail.announce(append)
    tail.announce(append)
    await receiver.has(append.first_id)


async def test_an_append_that_was_never_told_of_is_heard_before_the_next_one(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    unknown = await engine.append([1], notify=False)
    known = await engine.append([1], notify=False)
    tail.announce(known)
    await receiver.has(unknown.first_id, known.first_id)


async def test_an_append_that_was_never_told_of_is_heard_without_a_next_one(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    append = await engine.append([1], notify=False)
    await receiver.has(append.first_id)


async def test_a_receiver_registered_at_any_moment_has_history_up_to_a_position_and_hears_of_all_beyond(
    engine: Engine, told: Told
) -> None:
    tail = await engine.tail()
    tail.subscribe(1, "org_1", Collector())
    receivers: list[tuple[str, Collector]] = []
    every: list[str] = []

    async def appending() -> None:
        for _ in range(60):
            append = await engine.append([1, 2])
            every.append(append.events[0].id)
            told(tail, append)

    async def registering() -> None:
        for _ in range(40):
            receiver = Collector()
            receivers.append((tail.subscribe(1, "org_1", receiver), receiver))
            await asyncio.sleep(0.003)

    await asyncio.gather(appending(), registering())
    for position, receiver in receivers:
        beyond = [each for each in every if each > position]
        last = beyond[-1:]
        # One that registered last may be handed what is not beyond its position, and nothing else.
        await receiver.until(lambda self: not last or self.ids[-1:] == last)  # noqa: B023 - awaited within the turn
        assert [each for each in receiver.ids if each > position] == beyond


async def test_a_receiver_that_unsubscribed_hears_nothing_more(engine: Engine) -> None:
    tail, leaving, staying = await engine.tail(), Collector(), Collector()
    tail.subscribe(1, "org_1", leaving)
    tail.subscribe(1, "org_1", staying)
    tail.unsubscribe(1, leaving)
    append = await engine.append([1])
    await staying.has(append.first_id)
    assert leaving.ids == []


async def test_two_tails_hear_of_the_same(engine: Engine) -> None:
    one, other = Collector(), Collector()
    first = await engine.tail()
    first.subscribe(1, "org_1", one)
    (await engine.tail()).subscribe(1, "org_1", other)
    append = await engine.append([1])
    first.announce(append)
    await one.has(append.first_id)
    await other.has(append.first_id)


async def test_more_than_a_piece_at_once_is_said_to_be_left_to_history(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    append = await engine.append([1] * (PIECE_ROWS + 1), notify=False)
    await receiver.until(lambda self: self.fell_behind_to is not None)
    assert receiver.fell_behind_to == append.last_id


async def test_events_of_great_size_are_said_to_be_left_to_history(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    append = await engine.append([1, 1], size=3_000_000, notify=False)
    await receiver.until(lambda self: self.fell_behind_to is not None)
    assert receiver.fell_behind_to == append.last_id


async def test_after_falling_behind_the_next_append_is_heard(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    await engine.append([1] * (PIECE_ROWS + 1), notify=False)
    await receiver.until(lambda self: self.fell_behind_to is not None)
    append = await engine.append([1])
    await receiver.has(append.first_id)


async def test_a_lost_connection_loses_no_event(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    first = await engine.append([1])
    await receiver.until(lambda self: self.ids == [first.first_id])
    await engine.pool.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    async with asyncio.timeout(30):
        while True:
            try:
                second = await engine.append([1])
                break
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await asyncio.sleep(0.05)
    await receiver.has(first.first_id, second.first_id)


async def test_a_head_that_moved_without_an_event_is_no_gap(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    await engine.pool.execute(
        "INSERT INTO streamhub_hub.log_heads "
        "SELECT last_ms + 10, last_counter, event_ms, event_counter FROM streamhub_hub.log_head"
    )
    append = await engine.append([1])
    tail.announce(append)
    await receiver.has(append.first_id)


async def test_what_another_role_notifies_keeps_no_event_from_a_receiver(engine: Engine) -> None:
    tail, receiver = await engine.tail(), Collector()
    tail.subscribe(1, "org_1", receiver)
    await receiver_is_served(engine, receiver)
    async with engine.pool.acquire() as connection:
        name = f"notifier_{await connection.fetchval('SELECT current_database()')}"
        await connection.execute(f"CREATE ROLE {name}")
        try:
            await connection.execute(f"SET SESSION AUTHORIZATION {name}")
            for channel in await channels_that_show(connection):
                await connection.execute("SELECT pg_notify($1, $2)", channel, f"{'0' * 8} x {'f' * 8} 2")
            await connection.execute("RESET SESSION AUTHORIZATION")
            append = await engine.append([1])
            await receiver.until(lambda self: append.first_id in self.ids)
        finally:
            await connection.execute("RESET SESSION AUTHORIZATION")
            await connection.execute(f"DROP ROLE {name}")


async def receiver_is_served(engine: Engine, receiver: Collector) -> None:
    first = await engine.append([1])
    await receiver.until(lambda self: first.first_id in self.ids)


async def channels_that_show(connection: "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]") -> list[str]:
    """The old name, and what the sessions of others show to the role of this one."""
    shown = await connection.fetch(
        "SELECT (regexp_match(query, 'LISTEN \"?([a-z0-9_]+)'))[1] AS channel FROM pg_stat_activity"
    )
    return ["streamhub_append", *(row["channel"] for row in shown if row["channel"] is not None)]
