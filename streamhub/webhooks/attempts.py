"""Attempts that are under way in this process: begun in turn over endpoints, an organization with its share of them."""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Sequence
from typing import Final

from streamhub.metrics import Metrics
from streamhub.webhooks.bodies import Bodies
from streamhub.webhooks.deliveries import Delivery, Result
from streamhub.webhooks.lookups import asking_organization
from streamhub.webhooks.posting import MOST_CONNECTIONS, Outcome, Poster
from streamhub.webhooks.queue import Queue, pause_after
from streamhub.webhooks.results import Results
from streamhub.webhooks.shares import share_of

log = logging.getLogger(__name__)

ENDS_WITHIN: Final = 0.3  # seconds, at a stop


class Attempts:
    """`schedule`: pauses before the second and each later one, in seconds."""

    def __init__(
        self, queues: dict[str, Queue], results: Results, bodies: Bodies, poster: Poster, metrics: Metrics,
        schedule: Sequence[float],
    ) -> None:  # fmt: skip
        self._queues = queues
        self._results = results
        self._bodies = bodies
        self._poster = poster
        self._metrics = metrics
        self._schedule = schedule
        self._tasks: dict[asyncio.Task[None], Queue] = {}
        self._under_way: Counter[int] = Counter()  # by organization

    def begin(self, most_wait: float) -> float:
        """Begin all that may; seconds until another one may, at most `most_wait`."""
        now, wait = time.monotonic(), most_wait
        free = MOST_CONNECTIONS - len(self._tasks) - len(self._results)
        for id_, queue in list(self._queues.items()):
            if self._results.is_locked(id_):
                continue
            organization = queue.organization
            while self._under_way[organization] < share_of(free, is_first=queue.goes_first):
                delivery = queue.begin(now)
                if delivery is None:
                    wait = min(wait, queue.wait(now))
                    break
                task = asyncio.create_task(self._attempt(queue, delivery, was_probe=queue.is_failing))
                self._tasks[task] = queue
                self._under_way[organization] += 1
                task.add_done_callback(self._is_over)
                free -= 1
            if queue.in_flight and len(self._queues) > 1:  # the next round begins with others
                self._queues[id_] = self._queues.pop(id_)
        return wait

    def cancel(self, queue: Queue) -> None:
        for each in [task for task, its in self._tasks.items() if its is queue]:
            each.cancel()

    async def stop(self) -> None:
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=ENDS_WITHIN)
        for each in self._tasks:
            each.cancel()

    def _is_over(self, task: asyncio.Task[None]) -> None:
        organization = self._tasks.pop(task).organization
        self._under_way[organization] -= 1
        if not self._under_way[organization]:
            del self._under_way[organization]

    async def _attempt(self, queue: Queue, delivery: Delivery, *, was_probe: bool) -> None:
        at = time.time()
        asking_organization.set(queue.organization)  # for this task alone
        try:
            outcome = await self._post(queue, delivery, at)
        except BaseException as error:  # the database is away, or it was cancelled: the row stays as it is
            queue.left(delivery)
            queue.held.discard(delivery.event)
            if not isinstance(error, Exception):
                raise
            log.warning("a delivery to webhook endpoint %s was not attempted: %r", queue.endpoint.id, error)
            return
        if outcome is None:
            queue.left(delivery)
        else:
            queue.ended(delivery, outcome, time.monotonic(), was_probe=was_probe)
        self._results.add(self._judged(queue, delivery, outcome, at))

    async def _post(self, queue: Queue, delivery: Delivery, at: float) -> Outcome | None:
        """None where the event is in history no more. Raises what asyncpg raises."""
        endpoint = queue.endpoint
        body = delivery.body or await self._bodies.take(endpoint.organization, endpoint.id, delivery.event)
        if body is None:
            return None
        try:
            secrets = endpoint.valid_secrets(at)
            return await self._poster.post(endpoint.url, body, delivery.event, secrets, endpoint.headers)
        finally:
            if not delivery.is_test:
                self._bodies.release(endpoint.id, delivery.event)

    def _judged(self, queue: Queue, delivery: Delivery, outcome: Outcome | None, at: float) -> Result:
        endpoint, attempts = queue.endpoint, delivery.attempts + 1
        missing = outcome is None
        outcome = outcome or Outcome(None, "the event is not in history any more", "", 0.0)
        lag = at - delivery.created_at if not delivery.attempts else None
        self._metrics.webhook_attempt("delivered" if outcome.succeeded else "failed", outcome.seconds, lag)
        if outcome.succeeded:
            return Result(delivery, "delivered", 0.0, outcome.document(at))
        pause = pause_after(attempts, () if delivery.is_test else self._schedule, outcome.retry_after)
        if pause is not None and not outcome.gone and not missing:
            return Result(delivery, "pending", pause, outcome.document(at))
        why = None
        if outcome.gone:
            why = "it answered 410"
        elif endpoint.auto_disable and not missing and not delivery.is_test:
            why = f"a delivery has failed {attempts} times ({outcome.error})"
        if why is not None:  # nothing more is begun, until it is written and read back
            queue.change(endpoint._replace(enabled=False), time.monotonic())
        return Result(delivery, "failed", 0.0, outcome.document(at), why)
