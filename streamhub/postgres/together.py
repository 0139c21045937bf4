"""One statement for many requests: a request that comes while a statement is under way is asked for with the next one.

A request that comes alone is asked for at once, and never waits for others to come. In a crowd the statements grow,
and a request costs gateway and database a fraction of a statement, a commit and a connection of its own.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

from streamhub.cancellation import ended

Q = TypeVar("Q")
A = TypeVar("A")


class Together(Generic[Q, A]):
    """`ask` answers many questions in their order, with one connection. How many there may be at once is bounded by
    the turns of requests."""

    def __init__(self, ask: Callable[[Sequence[Q]], Awaitable[Sequence[A]]], name: str) -> None:
        self._ask = ask
        self._name = name
        self._waiting: list[tuple[Q, asyncio.Future[A]]] = []
        self._task: asyncio.Task[None] | None = None

    async def answer(self, question: Q) -> A:
        """Raises what `ask` raises, for all that it was asked for."""
        future: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting.append((question, future))
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name=self._name)
        return await future

    async def _run(self) -> None:
        while self._waiting:
            # One that no longer waits is not asked for: what a statement takes for it would be given to no request.
            asked = [(question, future) for question, future in self._waiting if not future.done()]
            self._waiting = []
            if not asked:
                return
            try:
                answers = await self._ask([question for question, _ in asked])
                for (_, future), answer in zip(asked, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
            except Exception as error:  # noqa: BLE001 - whatever it is, all that asked get it
                for _, future in asked:
                    if not future.done():
                        future.set_exception(error)
            finally:
                for _, future in asked:
                    future.cancel()  # where this task is cancelled; else they are done

    async def stop(self) -> None:
        await ended(self._task)
        for _, future in self._waiting:
            future.cancel()
