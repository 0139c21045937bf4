"""The demo's own client: consumes one organization's live stream over HTTP, and measures latencies.

It also checks what it received: every commit, once, in order, and the same bytes in a replay.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import NamedTuple

import aiohttp
import orjson

from streamhub.core import ids
from streamhub.demo.shop import Commit
from streamhub.organizations import Organization

KEPT_FRAMES = 20_000  # the first frames of a run, which are compared with a replay
KEPT_COMMITS = 50_000
KEPT_EARLY = 1_000
SAMPLES = 2_000  # the newest latencies, for the percentiles
SILENCE = 30.0  # seconds; heartbeats come every 10
DELIVERED_WITHIN = 15.0


class Frame(NamedTuple):
    """An event as it came: `raw` from `event:` through the empty line."""

    id: str
    transaction_id: str
    test: bool
    raw: bytes


class Monitor:
    """Call `run` until it is cancelled, and `committed` for every commit."""

    def __init__(self, base_url: str, organization: Organization, token: Callable[[bool], str]) -> None:
        """`token(test)` returns a token of the organization, for the test or the live environment."""
        self.url = f"{base_url}/{organization.slug}"
        self.received = 0
        self.trouble: str | None = None
        self.opened = asyncio.Event()
        self._organization = organization
        self._token = token
        self._open_since: float | None = None
        self._frames: list[Frame] = []
        self._last_id: str | None = None
        self._out_of_order = 0
        self._latencies: deque[float] = deque(maxlen=SAMPLES)
        self._commits: dict[str, Commit] = {}
        self._rows: dict[str, int] = {}  # rows received, by transaction
        self._early: dict[str, float] = {}  # when a transaction's event came, if before its COMMIT returned

    def committed(self, commit: Commit) -> None:
        """Ignores transactions that began before the stream was open: the stream may begin after them."""
        if commit.organization_id != self._organization.id or not self._open_since or commit.began < self._open_since:
            return
        if len(self._commits) < KEPT_COMMITS:
            self._commits[commit.transaction_id] = commit
        arrived = self._early.pop(commit.transaction_id, None)
        if arrived is not None:
            self._latencies.append(max(0.0, arrived - commit.at))

    def latency(self) -> tuple[float, float] | None:
        """p50 and p99 in seconds, from the return of COMMIT to the event's bytes at the client."""
        if len(self._latencies) < 2:
            return None
        cuts = quantiles(self._latencies, n=100, method="inclusive")
        return cuts[49], cuts[98]

    async def run(self) -> None:
        pause = 0.2
        async with aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=5, sock_read=SILENCE), read_bufsize=2**18
        ) as session:
            while True:
                try:
                    pause = await self._consume(session) or pause * 2
                except (aiohttp.ClientError, TimeoutError) as error:
                    self.trouble = f"{type(error).__name__}: {error}"
                    pause *= 2
                pause = min(pause, 6.0)
                await asyncio.sleep(pause * random.uniform(1.0, 1.2))

    async def _consume(self, session: aiohttp.ClientSession) -> float | None:
        """One connection, to its end. Returns the seconds to wait before the next, or None."""
        headers = {"Authorization": f"Bearer {self._token(False)}"}
        if self._last_id is not None:
            headers["Last-Event-ID"] = self._last_id
        async with session.get(self.url, headers=headers) as response:
            if response.status != 200:
                refusal = await response.read()
                self.trouble = f"{response.status}: {_detail(refusal)}"
                return float(response.headers.get("Retry-After", 1))
            self.trouble = None
            self._open_since = self._open_since or time.perf_counter()
            self.opened.set()
            async for frame in _frames(response):
                self._receive(frame, time.perf_counter())
        return 0.2

    def _receive(self, frame: Frame, now: float) -> None:
        self.received += 1
        if self._last_id is not None and frame.id <= self._last_id:
            self._out_of_order += 1
        self._last_id = frame.id
        if len(self._frames) < KEPT_FRAMES:
            self._frames.append(frame)
        self._rows[frame.transaction_id] = self._rows.get(frame.transaction_id, 0) + 1
        if len(self._rows) > KEPT_COMMITS:
            del self._rows[next(iter(self._rows))]
        commit = self._commits.get(frame.transaction_id)
        if commit is not None:
            self._latencies.append(now - commit.at)
        else:
            self._early[frame.transaction_id] = now
            if len(self._early) > KEPT_EARLY:
                del self._early[next(iter(self._early))]

    # -- the check

    async def check(self) -> tuple[bool, str]:
        """Call it after the last commit. Returns whether the check passed, and a sentence about it."""
        missing = await self._missing()
        if missing:
            example = missing[0]
            return False, (
                f"live: {len(missing)} of {len(self._commits)} transactions did not arrive whole within "
                f"{DELIVERED_WITHIN:.0f} s: {example.transaction_id} changed {example.rows} rows and "
                f"{self._rows.get(example.transaction_id, 0)} events arrived ({self.trouble or 'connected'})"
            )
        if self._out_of_order:
            return False, f"live: {self._out_of_order} events arrived twice or out of order"
        if not self._frames:
            return False, f"live: no event arrived ({self.trouble or 'connected'})"
        replayed = 0
        for test in (False, True):
            expected = [frame.raw for frame in self._frames if frame.test == test]
            try:
                got, problem = await asyncio.wait_for(self._replay(test), 60)
            except (aiohttp.ClientError, TimeoutError) as error:
                return False, f"replay: {type(error).__name__}: {error}"
            if problem is not None:
                return False, f"replay: {problem}"
            if got != expected:
                return False, (
                    f"replay: {'test' if test else 'live'} environment: the live stream had {len(expected)} events, "
                    f"the replay of the same window {len(got)}; they differ"
                )
            replayed += len(got)
        return True, (
            f"live: {self.received} events, all {len(self._commits)} transactions whole and in order; "
            f"replay: the same {replayed} events, byte for byte, sha256 right"
        )

    async def _missing(self) -> list[Commit]:
        give_up = time.monotonic() + DELIVERED_WITHIN
        while True:
            missing = [
                commit for commit in self._commits.values() if self._rows.get(commit.transaction_id) != commit.rows
            ]
            if not missing or time.monotonic() > give_up:
                return missing
            await asyncio.sleep(0.05)

    async def _replay(self, test: bool) -> tuple[list[bytes], str | None]:
        """(the frames of a replay between the first and the last kept live frame, a problem or None)"""
        first, last = self._frames[0].id, self._frames[-1].id
        window = {"date_from": _date(ids.milliseconds(first)), "date_to": _date(ids.milliseconds(last) + 1)}
        digest, frames, complete = hashlib.sha256(), [], None
        headers = {"Authorization": f"Bearer {self._token(test)}"}
        async with (
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session,
            session.get(f"{self.url}/replay", params=window, headers=headers) as response,
        ):
            if response.status != 200:
                return [], f"{response.status}: {_detail(await response.read())}"
            async for block in _blocks(response):
                if b"\nid: " in block:
                    digest.update(block)
                    frames.append(block)
                elif block.startswith(b"event: stream_complete\n"):
                    complete = orjson.loads(block.partition(b"data: ")[2])
                elif block.startswith(b"event: stream_error\n"):
                    return frames, block.decode()
        if complete is None:
            return frames, "the response ended without stream_complete"
        if complete["sha256"] != digest.hexdigest():
            return frames, f"its sha256 is {complete['sha256']}, that of the received bytes {digest.hexdigest()}"
        # The window has whole milliseconds, so it may hold events before the first and after the last frame.
        return [raw for raw in frames if first <= _frame(raw).id <= last], None


async def _frames(response: aiohttp.ClientResponse) -> AsyncIterator[Frame]:
    async for block in _blocks(response):
        if b"\nid: " in block:
            yield _frame(block)


async def _blocks(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Whole blocks with their empty line; events have exactly the lines event, id and data."""
    rest = b""
    async for chunk in response.content.iter_any():
        *whole, rest = (rest + chunk).split(b"\n\n")
        for block in whole:
            yield block + b"\n\n"


def _frame(raw: bytes) -> Frame:
    _, id_line, data_line = raw.rstrip(b"\n").split(b"\n")
    data = orjson.loads(data_line.removeprefix(b"data: "))
    return Frame(id_line.removeprefix(b"id: ").decode(), data["transaction_id"], data["test"], raw)


def _date(ms: int) -> str:
    return (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat(timespec="milliseconds")[:-6] + "Z"


def _detail(body: bytes) -> str:
    try:
        return str(orjson.loads(body)["errors"][0]["detail"])
    except (ValueError, KeyError, IndexError, TypeError):
        return body[:200].decode(errors="replace")
