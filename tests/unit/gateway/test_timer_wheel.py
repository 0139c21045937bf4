"""One timer for all streams' wheel."""

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from streamhub.gateway.streams.timer_wheel import TimerWheel


class Timer:
    def __init__(self, due: float, call: Callable[[], None]) -> None:
        self.due = due
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Loop:
    """An event loop whose clock the test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self.timers: list[Timer] = []

    def time(self) -> float:
        return self.now

    def call_at(self, due: float, call: Callable[..., None], *arguments: Any) -> Timer:
        self.timers.append(Timer(due, lambda: call(*arguments)))
        return self.timers[-1]

    def call_later(self, seconds: float, call: Callable[..., None], *arguments: Any) -> Timer:
        return self.call_at(self.now + seconds, call, *arguments)

    def run_until(self, end: float) -> None:
        while due := [timer for timer in self.timers if not timer.cancelled and timer.due <= end]:
            timer = min(due, key=lambda each: each.due)
            self.timers.remove(timer)
            self.now = max(self.now, timer.due)
            timer.call()
        self.now = max(self.now, end)


@pytest.fixture
def loop(monkeypatch: pytest.MonkeyPatch) -> Loop:
    loop = Loop()
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    return loop


def test_each_is_called_an_interval_after_it_joined_and_then_on(loop: Loop) -> None:
    wheel = TimerWheel(timedelta(seconds=10))
    times: dict[str, list[float]] = {"one": [], "two": []}
    wheel.join("one", lambda: times["one"].append(loop.now))
    loop.run_until(5.1)
    wheel.join("two", lambda: times["two"].append(loop.now))
    loop.run_until(31)
    assert times == {"one": pytest.approx([10, 20, 30]), "two": pytest.approx([15, 25])}


def test_a_member_that_left_is_not_called_again_and_an_empty_wheel_stands_still(loop: Loop) -> None:
    wheel = TimerWheel(timedelta(seconds=10))
    calls: list[float] = []
    wheel.join("one", lambda: calls.append(loop.now))
    wheel.leave("one")
    loop.run_until(30)
    assert (calls, loop.timers) == ([], [])


def test_a_wheel_that_was_stopped_calls_nothing(loop: Loop) -> None:
    wheel = TimerWheel(timedelta(seconds=10))
    calls: list[float] = []
    wheel.join("one", lambda: calls.append(loop.now))
    wheel.stop()
    loop.run_until(30)
    assert calls == []


def test_after_a_pause_of_the_process_a_member_is_not_called_for_what_was_missed(loop: Loop) -> None:
    wheel = TimerWheel(timedelta(seconds=10))
    calls: list[float] = []
    wheel.join("one", lambda: calls.append(loop.now))
    loop.run_until(1)
    loop.now = 60.0  # the process stood still
    loop.run_until(68)
    assert len(calls) <= 1
