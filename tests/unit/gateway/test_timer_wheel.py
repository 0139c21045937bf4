"""One timer for all streams' wheel."""

import asyncio
import time
from datetime import timedelta

import pytest

from streamhub.gateway.streams.timer_wheel import SPOKES, TimerWheel


async def test_each_is_called_an_interval_after_it_joined_and_then_on() -> None:
    wheel = TimerWheel(timedelta(milliseconds=200))
    began = time.monotonic()
    times: dict[str, list[float]] = {"one": [], "two": []}
    wheel.join("one", lambda: times["one"].append(time.monotonic() - began))
    await asyncio.sleep(0.1)
    wheel.join("two", lambda: times["two"].append(time.monotonic() - began))
    await asyncio.sleep(0.55)
    wheel.stop()
    assert times["one"] == pytest.approx([0.2, 0.4, 0.6], abs=0.03)
    assert times["two"] == pytest.approx([0.3, 0.5], abs=0.03)


async def test_a_member_that_left_is_not_called_again_and_an_empty_wheel_stands_still() -> None:
    wheel = TimerWheel(timedelta(milliseconds=50))
    calls: list[None] = []
    wheel.join("one", lambda: calls.append(None))
    wheel.leave("one")
    await asyncio.sleep(0.12)
    assert (calls, wheel._timer) == ([], None)


async def test_after_a_pause_of_the_process_nobody_is_called_twice_at_once() -> None:
    wheel = TimerWheel(timedelta(milliseconds=SPOKES))
    calls: list[float] = []
    wheel.join("one", lambda: calls.append(time.monotonic()))
    await asyncio.sleep(0.005)
    time.sleep(0.3)  # noqa: ASYNC251 - the process stands still
    await asyncio.sleep(0.02)
    wheel.stop()
    assert len(calls) <= 1
