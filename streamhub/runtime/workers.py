"""Several processes that share one port: this one starts them, replaces those that die, and drains them all.

    starting ──says that it listens──▶ serving ──ends──▶ a pause that grows ──▶ starting
        └──ends, the first time──▶ the start fails as a whole, with the worker's own sentence

Every worker runs all the roles that were asked for. So each takes part in the leader election of the relay, and the hub
has a leader again within its lease whichever of them dies, and whatever keeps a new one from starting.
"""

from __future__ import annotations

import asyncio
import fcntl
import json
import logging
import os
import shutil
import signal
import sys
import tempfile
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from streamhub.backoff import Backoff
from streamhub.config import Settings
from streamhub.errors import UserError
from streamhub.metrics import MULTIPROCESS, forget_worker
from streamhub.relay import Source

log = logging.getLogger(__name__)

MOST_WORKERS = 64  # each has its connections to the database
STARTS_WITHIN = 60.0  # seconds
PAUSE_FIRST, PAUSE_LONGEST = 0.1, 30.0  # seconds between the end of a worker and the next start
STEADY_AFTER = 10.0  # seconds of serving after which the pause is short again
COUNTING = "streamhub-metrics-"
ENDS_WITHIN = 20.0  # seconds after DRAIN_TIME: responses, relay and connections have 5 each


class HandOver(NamedTuple):
    """What a worker is told on its stdin, as JSON: whose it is, which settings were `given` over the environment's, and
    what the parent has prepared. On its stdout it answers with one line: where it `listens`, or why it `failed`."""

    parent: int
    given: Mapping[str, str]
    hub_url: str
    sources: Sequence[Source]


class Workers:
    """`count` workers, which serve as `hand_over` says, and count in the files of `metrics_dir`."""

    def __init__(self, count: int, hand_over: HandOver, settings: Settings, metrics_dir: Path) -> None:
        self._count = count
        self._hand_over = json.dumps(hand_over._asdict()).encode()
        self._roles = settings.described_roles
        self._ends_within = settings.drain_time.total_seconds() + ENDS_WITHIN
        self._metrics_dir = metrics_dir
        self._processes: dict[int, Process] = {}
        self._not_yet_served = set(range(1, count + 1))
        self._stopping = False

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Returns once `stop` is set and all have drained. Raises UserError where one does not start the first time."""
        stopped = asyncio.create_task(stop.wait())
        places = [asyncio.create_task(self._keep(number)) for number in range(1, self._count + 1)]
        done, _ = await asyncio.wait([stopped, *places], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await self._end(places)
        for task in done:
            task.result()

    async def _end(self, places: Sequence[asyncio.Task[None]]) -> None:
        self._stopping = True
        for number, place in enumerate(places, start=1):
            if number in self._processes:
                with suppress(ProcessLookupError):
                    self._processes[number].terminate()
            else:
                place.cancel()
        _, late = await asyncio.wait(places, timeout=self._ends_within)
        for place in late:
            log.warning("a worker did not end %.0f s after SIGTERM; killing it", self._ends_within)
            place.cancel()
        await asyncio.gather(*places, return_exceptions=True)

    async def _keep(self, number: int) -> None:
        """One worker after the other in this place."""
        await self._live(number)
        pause = Backoff(PAUSE_FIRST, PAUSE_LONGEST, steady_after=STEADY_AFTER)
        lasted = 0.0
        while not self._stopping:
            waits = pause.next(lasted)
            log.warning("starting worker %d again in %.1f s", number, waits)
            await asyncio.sleep(waits)
            began = time.monotonic()
            try:
                await self._live(number)
            except (UserError, OSError) as error:
                log.error("worker %d: %s", number, error)
            lasted = time.monotonic() - began

    async def _live(self, number: int) -> None:
        """A worker from its start to its end. Raises UserError where it ends before it serves."""
        process = await asyncio.create_subprocess_exec(
            *_how_we_were_run(),
            "worker",
            str(number),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, MULTIPROCESS: str(self._metrics_dir)},
            start_new_session=True,  # a Ctrl-C at the terminal is ours to answer
        )
        self._processes[number] = process
        try:
            url = await self._listens(process)
            log.info("worker %d (process %d) serves", number, process.pid)
            if self._not_yet_served == {number}:
                log.info("%s in %d workers on %s", self._roles, self._count, url)
            self._not_yet_served.discard(number)
            code = await process.wait()
            if not self._stopping:
                log.error("worker %d (process %d) %s", number, process.pid, _how_it_ended(code))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            del self._processes[number]
            forget_worker(number, self._metrics_dir)

    async def _listens(self, process: Process) -> str:
        """Where it serves, once it does."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._hand_over)
        process.stdin.close()
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                line = await process.stdout.readline()
        except TimeoutError:
            raise UserError(f"process {process.pid} did not serve within {STARTS_WITHIN:.0f} s") from None
        said = json.loads(line) if line else {}
        if "listens" in said:
            return str(said["listens"])
        if "failed" in said:
            raise UserError(said["failed"])
        raise UserError(f"process {process.pid} {_how_it_ended(await process.wait())} before it served")


@contextmanager
def counting_directory() -> Iterator[Path]:
    """A directory for what workers count, gone at the end; what a parent left behind that was killed goes now."""
    for lock in Path(tempfile.gettempdir()).glob(f"{COUNTING}*/lock"):
        with suppress(OSError):
            if lock.parent.stat().st_uid == os.geteuid():
                with lock.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent)
    directory = Path(tempfile.mkdtemp(prefix=COUNTING))
    with (directory / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _how_we_were_run() -> list[str]:
    """`python -m streamhub`, or the installed program: the command line without what was asked for."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def _how_it_ended(code: int) -> str:
    if code < 0:
        return f"was ended by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"
