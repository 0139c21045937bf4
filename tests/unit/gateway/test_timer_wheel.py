"""One timer for all streams' heartbeats."""

import asyncio
import time
from datetime import timedelta

import pytest

from streamhub.gateway.streams.timer_wheel import SPOKES, Heartbeats


async def test_each_is_called_an_interval_after_it_joined_and_then_on() -> None:
    heartbeats = Heartbeats(timedelta(milliseconds=200))
    began = time.monotonic()
    times: dict[str, list[float]] = {"one": [], "two": []}
    heartbeats.join("one", lambda: times["one"].append(time.monotonic() - began))
    await asyncio.sleep(0.1)
    heartbeats.join("two", lambda: times["two"].append(time.monotonic() - began))
    await asyncio.sleep(0.55)
    heartbeats.stop()
    assert times["one"] == pytest.approx([0.2, 0.4, 0.6], abs=0.03)
    assert times["two"] == pytest.approx([0.3, 0.5], abs=0.03)


async def test_whoever_left_is_called_no_more_and_an_empty_wheel_stands_still() -> None:
    heartbeats = Heartbeats(timedelta(milliseconds=50))
    calls: list[None] = []
    heartbeats.join("one", lambda: calls.append(None))
    heartbeats.leave("one")
    await asyncio.sleep(0.12)
    assert (calls, heartbeats._timer) == ([], None)


async def test_after_a_pause_of_the_process_nobody_is_called_twice_at_once() -> None:
    heartbeats = Heartbeats(timedelta(milliseconds=SPOKES))
    calls: list[float] = []
    heartbeats.join("one", lambda: calls.append(time.monotonic()))
    await asyncio.sleep(0.005)
    time.sleep(0.3)  # noqa: ASYNC251 - the process stands still
    await asyncio.sleep(0.02)
    heartbeats.stop()
    assert len(calls) <= 1
