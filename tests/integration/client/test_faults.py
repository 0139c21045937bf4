"""What a hub and a network can do to a stream. The hub is a fake one, so that it does it at the right moment."""

import asyncio
import random
from collections.abc import AsyncIterable
from datetime import UTC, datetime, timedelta

import pytest

from streamhub.client import Event, Gap, IncompleteReplay, Refused, Replay, StreamHubError, replay
from streamhub.client import live as live_module
from streamhub.core.ids import milliseconds
from streamhub.core.window import before
from streamhub.testing import FakeHub
from tests.support.consuming import WITHIN, Memory, first, ids, lately, until

HOUR = timedelta(hours=1)


def published(fake: FakeHub, count: int) -> list[str]:
    return [fake.publish("skus.update", resource_id=str(n), resource={"n": n}) for n in range(count)]


async def collected(events: AsyncIterable[Event], into: list[str]) -> None:
    async for event in events:
        into.append(event.id)  # noqa: PERF401 - what came before an error counts


async def connected(fake: FakeHub) -> None:
    await asyncio.to_thread(fake.wait_for)


# -- replays


@pytest.mark.parametrize("how", ["cut", "end"])
async def test_a_replay_is_whole_wherever_its_response_breaks(fake_hub: FakeHub, how: str) -> None:
    """The sizes go through three frames in steps that hit line ends and their middles, and the last frame."""
    expected = published(fake_hub, 3)
    async with fake_hub.client() as hub:
        for size in [*range(0, 400, 23), *range(400, 2_000, 97)]:
            fake_hub.break_after(size, how)  # type: ignore[arg-type]
            replayed = hub.replay(**lately())
            assert ids([event async for event in replayed]) == expected, size
            assert replayed.is_complete


async def test_a_replay_that_brings_nothing_new_is_given_up(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "TRIES", 3)
    expected = published(fake_hub, 3)
    fake_hub.break_after(800, "end")
    fake_hub.break_after(50, "end", times=3)
    came: list[str] = []
    async with fake_hub.client() as hub:
        with pytest.raises(IncompleteReplay, match="3 tries in a row brought nothing new") as incomplete:
            await collected(hub.replay(**lately()), came)
    assert came == expected[:1]
    assert (incomplete.value.events, incomplete.value.last_id) == (1, expected[0])
    assert len(fake_hub.seen) == 4


@pytest.mark.parametrize(
    ("members", "reason"),
    [
        ({"events": 4}, "3 events came on the last response, 4 were sent"),
        ({"sha256": "0" * 64}, "sha256"),
    ],
)
async def test_a_replay_whose_end_tells_another_count_or_sum_is_incomplete(
    fake_hub: FakeHub, members: dict[str, object], reason: str
) -> None:
    published(fake_hub, 3)
    fake_hub.end_falsely(**members)
    async with fake_hub.client() as hub:
        with pytest.raises(IncompleteReplay, match=reason):
            [event async for event in hub.replay(**lately())]


async def test_a_cancelled_replay_is_incomplete(fake_hub: FakeHub) -> None:
    expected = published(fake_hub, 3)
    fake_hub.fail_replay(2, "REPLAY_CANCELLED", resumable=False)
    came: list[str] = []
    async with fake_hub.client() as hub:
        with pytest.raises(IncompleteReplay, match="REPLAY_CANCELLED"):
            await collected(hub.replay(**lately()), came)
    assert came == expected[:2]


async def test_a_resumed_replay_does_not_reach_beyond_the_window_of_the_first_request(fake_hub: FakeHub) -> None:
    expected = published(fake_hub, 3)
    fake_hub.break_after(1_000)
    async with fake_hub.client() as hub:
        replayed = hub.replay(**lately())
        events = await replayed.batch()
        await asyncio.sleep(0.003)  # the window's end has to lie before what follows, in whole milliseconds
        published(fake_hub, 1)
        assert ids([*events, *[event async for event in replayed]]) == expected
    assert replayed.started is not None
    assert [seen.query["date_to"] for seen in fake_hub.seen[1:]] == [replayed.started["date_to"]]


async def test_a_replay_without_an_end_resumes_without_one(fake_hub: FakeHub) -> None:
    expected = published(fake_hub, 3)
    fake_hub.break_after(1_000)
    async with fake_hub.client() as hub:
        replayed = hub.replay(resource_type_eq="skus", resource_id_in=["0", "1", "2"])
        assert ids([event async for event in replayed]) == expected
    assert ["date_to" in seen.query for seen in fake_hub.seen] == [False, False]


# -- live


async def test_a_stream_that_falls_silent_is_cut_and_resumed(
    fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_module, "WATCHDOG", 0.1)
    fake_hub.break_after(600, "stall")
    async with fake_hub.client() as hub, hub.live() as live:
        coming = asyncio.create_task(first(3, live))
        await connected(fake_hub)
        assert published(fake_hub, 3) == ids(await coming)
    assert len(fake_hub.seen) >= 2


async def test_heartbeats_keep_a_stream_without_events(fake_hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_module, "WATCHDOG", 0.5)
    with FakeHub(heartbeat=0.05) as fake:
        async with fake.client() as hub, hub.live() as live:
            coming = asyncio.create_task(first(1, live))
            await connected(fake)
            await asyncio.sleep(0.7)  # what is judged is that nothing happens
            assert published(fake, 1) == ids(await coming)
        assert len(fake.seen) == 1


async def test_a_stream_error_that_can_be_resumed_is_resumed_behind_the_last_event(fake_hub: FakeHub) -> None:
    async with fake_hub.client() as hub, hub.live() as live:
        coming = asyncio.create_task(first(4, live))
        await connected(fake_hub)
        expected = published(fake_hub, 2)
        await until(lambda: live.last_event_id == expected[1])
        fake_hub.end_streams("DRAINING")
        await until(lambda: len(fake_hub.seen) == 2)
        expected += published(fake_hub, 2)
        assert ids(await coming) == expected
    assert fake_hub.seen[1].last_event_id == expected[1]


async def test_a_stream_error_that_cannot_be_resumed_is_final(fake_hub: FakeHub) -> None:
    async with fake_hub.client() as hub:
        coming = asyncio.create_task(first(2, hub.live()))
        await connected(fake_hub)
        published(fake_hub, 1)
        fake_hub.end_streams("DELETED", resumable=False)
        with pytest.raises(Refused) as refused:
            await coming
    assert refused.value.code == "DELETED"
    assert len(fake_hub.seen) == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405])
async def test_a_refusal_for_good_is_raised_after_one_request(fake_hub: FakeHub, status: int) -> None:
    fake_hub.refuse(status, "SOME_CODE", detail="What was wrong.")
    async with fake_hub.client() as hub:
        with pytest.raises(Refused, match=r"SOME_CODE: What was wrong\.") as refused:
            await first(1, hub.live())
    assert refused.value.status == status
    assert len(fake_hub.seen) == 1


@pytest.mark.parametrize("status", [409, 429, 500, 502, 503])
async def test_another_refusal_is_tried_again(fake_hub: FakeHub, status: int) -> None:
    fake_hub.refuse(status, "SOME_CODE", retry_after=0, times=3)
    async with fake_hub.client() as hub, hub.live() as live:
        coming = asyncio.create_task(first(1, live))
        await connected(fake_hub)
        assert published(fake_hub, 1) == ids(await coming)
    assert len(fake_hub.seen) == 4


async def test_retry_after_is_waited_for(fake_hub: FakeHub) -> None:
    fake_hub.refuse(409, "ACTIVE_CONSUMER_EXISTS", retry_after=1)
    async with fake_hub.client() as hub, hub.live() as live:
        began = asyncio.get_running_loop().time()
        coming = asyncio.create_task(first(1, live))
        await connected(fake_hub)
        assert asyncio.get_running_loop().time() - began >= 1
        published(fake_hub, 1)
        await coming


async def test_the_hubs_retry_is_the_least_pause() -> None:
    with FakeHub(retry_ms=300) as fake:
        async with fake.client() as hub, hub.live() as live:
            coming = asyncio.create_task(first(1, live))
            await connected(fake)
            began = asyncio.get_running_loop().time()
            fake.end_streams()
            await until(lambda: len(fake.seen) == 2)
            assert asyncio.get_running_loop().time() - began >= 0.3
            await connected(fake)
            published(fake, 1)
            await coming


# -- tokens


async def test_a_function_is_asked_for_another_token_once_the_first_has_expired(fake_hub: FakeHub) -> None:
    tokens = [fake_hub.token]
    async with fake_hub.client(token=lambda: tokens[-1]) as hub, hub.live() as live:
        coming = asyncio.create_task(first(2, live))
        await connected(fake_hub)
        expected = published(fake_hub, 1)
        await until(lambda: live.last_event_id == expected[0])
        tokens.append("another")
        fake_hub.expire_token(new="another")
        await until(lambda: len(fake_hub.seen) == 2)
        expected += published(fake_hub, 1)
        assert ids(await coming) == expected


async def test_a_coroutine_function_that_returns_an_expired_token_once_is_asked_again(fake_hub: FakeHub) -> None:
    tokens = iter([fake_hub.token, "another"])
    fake_hub.expire_token(new="another")
    expected = published(fake_hub, 1)

    async def token() -> str:
        return next(tokens)

    async with fake_hub.client(token=token) as hub:
        assert ids([event async for event in hub.replay(**lately())]) == expected
    assert len(fake_hub.seen) == 2


async def test_a_token_that_stays_expired_is_refused_for_good(fake_hub: FakeHub) -> None:
    old = fake_hub.token
    fake_hub.expire_token(new="another")
    async with fake_hub.client(token=lambda: old) as hub:
        with pytest.raises(Refused, match="EXPIRED_TOKEN"):
            await first(1, hub.live())
    assert len(fake_hub.seen) == 2


# -- closing


async def test_a_closed_client_ends_its_streams(fake_hub: FakeHub) -> None:
    hub = fake_hub.client()
    live = hub.live()
    coming = asyncio.create_task(first(1, live))
    await until(lambda: live.connected)
    await hub.close()
    assert await coming == []
    with pytest.raises(StreamHubError, match="the client is closed"):
        await first(1, hub.live())


async def test_a_replay_that_is_closed_before_its_end_is_incomplete(fake_hub: FakeHub) -> None:
    published(fake_hub, 3)
    fake_hub.break_after(1_000, "stall")
    came: list[str] = []
    async with fake_hub.client() as hub:
        replayed = hub.replay(**lately())
        coming = asyncio.create_task(collected(replayed, came))
        await until(lambda: bool(came))
        await replayed.close()
        with pytest.raises(IncompleteReplay, match="it was closed"):
            await coming


async def test_a_stream_that_waits_for_its_next_try_is_closed_at_once(fake_hub: FakeHub) -> None:
    fake_hub.refuse(503, "DRAINING", retry_after=60)
    async with fake_hub.client() as hub:
        live = hub.live()
        coming = asyncio.create_task(first(1, live))
        await until(lambda: len(fake_hub.seen) == 1)
        await live.close()
        assert await asyncio.wait_for(coming, 5) == []


# -- gaps


def a_gap(fake: FakeHub) -> tuple[list[str], list[str]]:
    """Four events of two hours ago, of which the consumer has the first; the next stream leaves out the others."""
    then = datetime.now(UTC) - 2 * HOUR
    old = [fake.publish("skus.update", published_at=then + timedelta(seconds=n)) for n in range(4)]
    fake.gap(old[0], then, then + HOUR)
    return old, published(fake, 2)


async def test_a_gap_is_filled_by_replay_before_the_stream_goes_on(fake_hub: FakeHub) -> None:
    old, new = a_gap(fake_hub)
    told: list[Gap] = []
    position = Memory(old[-1])
    async with fake_hub.client() as hub, hub.live(position=position, on_gap=told.append) as live:
        fake_hub.break_after(700, kind="replay")
        assert ids(await first(5, live)) == [*old[1:], *new]
    assert [gap.after_id for gap in told] == [old[0]]
    assert position.stored[-1] == new[0], "the loop was left at the last"


async def test_a_gap_that_is_not_filled_is_told(fake_hub: FakeHub) -> None:
    old, new = a_gap(fake_hub)
    told: list[Gap] = []

    async def on_gap(gap: Gap) -> None:
        told.append(gap)

    async with fake_hub.client() as hub:
        live = hub.live(position=Memory(old[-1]), on_gap=on_gap, fills_gaps=False)
        async with live:
            assert ids(await first(2, live)) == new
        (gap,) = told
        (missed,) = hub.replays_of(gap)
        assert ids([event async for event in missed]) == old[1:]


# -- positions


async def test_a_position_is_stored_once_the_body_of_the_loop_is_done_with_the_event(fake_hub: FakeHub) -> None:
    expected = published(fake_hub, 2)
    position = Memory()
    during: list[list[str]] = []
    async with fake_hub.client() as hub:
        async for _ in hub.replay(**lately(), position=position):
            during.append(list(position.stored))  # noqa: PERF401 - the body of a loop is what is tested
    assert during[0] == []
    assert expected[1] not in during[1]
    assert position.stored[-1] == expected[1]


async def failing_at(id: str, replayed: Replay) -> None:
    async with replayed:
        async for event in replayed:
            if event.id == id:
                raise ZeroDivisionError


async def test_an_event_whose_handling_failed_comes_again(fake_hub: FakeHub) -> None:
    expected = published(fake_hub, 3)
    position = Memory()
    async with fake_hub.client() as hub:
        with pytest.raises(ZeroDivisionError):
            await failing_at(expected[1], hub.replay(**lately(), position=position))
        assert position.stored == [expected[0]]
        again = hub.replay(**lately(), position=position)
        assert ids([event async for event in again]) == expected[1:]


async def test_a_position_that_cannot_be_loaded_ends_the_stream_before_it_connects(fake_hub: FakeHub) -> None:
    class Broken(Memory):
        async def load(self) -> str | None:
            raise FileNotFoundError("no such directory")

    async with fake_hub.client() as hub:
        with pytest.raises(FileNotFoundError):
            await first(1, hub.live(position=Broken()))
    assert fake_hub.seen == []


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_breaks_each_event_is_handled_in_order_and_none_is_left_out(
    fake_hub: FakeHub, seed: int
) -> None:
    """A consumer that crashes, on a network that cuts. Only what was handled since the last stored position comes
    again."""
    chance = random.Random(seed)
    expected = published(fake_hub, 60)
    position, handled, crashes = Memory(before(milliseconds(expected[0]))), list[str](), 0

    async def consume(crash_after: int) -> None:
        async with fake_hub.client() as hub, hub.live(position=position) as live:
            async for event in live:
                handled.append(event.id)
                crash_after -= 1
                if not crash_after:
                    raise ZeroDivisionError
                if event.id == expected[-1]:
                    return

    async with asyncio.timeout(WITHIN):
        while handled[-1:] != expected[-1:]:
            for _ in range(3):
                fake_hub.break_after(chance.randrange(200, 9_000), chance.choice(["cut", "end"]))
            stored = len(position.stored)
            try:
                await consume(chance.randrange(2, 30))
            except ZeroDivisionError:
                crashes += 1
                assert position.stored[-1] == handled[-2], "all but the event that failed"
            assert position.stored[stored:] == sorted(position.stored[stored:])
    assert list(dict.fromkeys(handled)) == expected
    assert len(handled) <= len(expected) + crashes
