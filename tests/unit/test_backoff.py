"""The pause before a retry."""

import asyncio

import pytest

from streamhub import backoff
from streamhub.backoff import Backoff, rest


@pytest.fixture(autouse=True)
def no_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER", 0.0)


def test_a_pause_doubles_up_to_its_bound() -> None:
    pause = Backoff(0.5, 3.0)
    assert [pause.next() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]


def test_after_a_success_it_begins_again() -> None:
    pause = Backoff(0.5, 3.0)
    pause.next()
    pause.reset()
    assert pause.next() == 0.5


def test_a_try_that_lasted_begins_again() -> None:
    pause = Backoff(0.5, 3.0, steady_after=10.0)
    assert [pause.next(lasted) for lasted in (0.0, 9.0, 11.0, 0.0)] == [0.5, 1.0, 0.5, 1.0]


def test_jitter_is_a_quarter_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backoff, "JITTER", 0.25)
    pauses = [Backoff(1.0, 1.0).next() for _ in range(200)]
    assert 0.75 <= min(pauses) < 0.9
    assert 1.1 < max(pauses) <= 1.25


async def test_a_cancellation_that_an_error_took_the_place_of_ends_the_loop_at_its_pause() -> None:
    began = asyncio.Event()

    async def loop() -> None:
        while True:
            try:
                began.set()
                await asyncio.Event().wait()
            except asyncio.CancelledError:  # as asyncpg does at the end of a transaction
                await rest(60)

    task = asyncio.create_task(loop())
    await began.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=5)
    assert task.cancelled()
