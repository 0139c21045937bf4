"""Several processes that share one port. This one starts them, restarts those that die, and drains them all.

    starting ──answers `listens`──▶ serving ──ends──▶ back-off ──▶ starting
        └──ends, the first time──▶ the whole start fails, with the worker's own error

Every worker runs all roles of the settings. So each takes part in the relay's leader election, and another one leads
within the lease's time when the leader dies, even where no new worker can start.
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
from typing import Any, NamedTuple, Self

from streamhub.backoff import Backoff, rest
from streamhub.cancellation import ended
from streamhub.config import Settings
from streamhub.errors import UserError
from streamhub.metrics import MULTIPROCESS, forget_worker
from streamhub.relay import Source

log = logging.getLogger(__name__)

MAX_WORKERS = 64  # each has its connections to the database
STARTS_WITHIN = 60.0  # seconds
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0  # seconds between the end of a worker and the next start
STEADY_AFTER = 10.0  # seconds of serving after which the pause is short again
METRICS_PREFIX = "streamhub-metrics-"
STOPS_AFTER_DRAIN = 20.0  # seconds after DRAIN_TIME: responses, relay and connections have 5 each


class WorkerConfig(NamedTuple):
    """What the parent (a process id) writes to a worker's stdin as JSON. `overrides` win over the environment's
    settings; the databases are migrated. The worker answers with one line on stdout."""

    parent: int
    overrides: Mapping[str, str]
    hub_url: str
    sources: Sequence[Source]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises ValueError where the text is not JSON."""
        members: dict[str, Any] = json.loads(text)
        return cls(**{**members, "sources": [Source(*source) for source in members["sources"]]})


class Workers:
    """`count` workers with one configuration. Their metrics are in files of `metrics_dir`."""

    def __init__(self, count: int, config: WorkerConfig, settings: Settings, metrics_dir: Path) -> None:
        self._count = count
        self._config = json.dumps(config._asdict()).encode()
        self._roles = settings.described_roles
        self._stops_within = settings.drain_time.total_seconds() + STOPS_AFTER_DRAIN
        self._metrics_dir = metrics_dir
        self._processes: dict[int, Process] = {}
        self._never_served = set(range(1, count + 1))
        self._stopping = False

    async def serve_until(self, stop: asyncio.Event) -> None:
        """Returns once `stop` is set and all have drained. Raises UserError where one's first start fails."""
        stopped = asyncio.create_task(stop.wait())
        supervisors = [asyncio.create_task(self._supervise(number)) for number in range(1, self._count + 1)]
        done, _ = await asyncio.wait([stopped, *supervisors], return_when=asyncio.FIRST_COMPLETED)
        stopped.cancel()
        await self._end(supervisors)
        for task in done:
            task.result()

    async def _end(self, supervisors: Sequence[asyncio.Task[None]]) -> None:
        self._stopping = True
        for number, supervisor in enumerate(supervisors, start=1):
            if number in self._processes:
                with suppress(ProcessLookupError):
                    self._processes[number].terminate()
            else:
                supervisor.cancel()
        _, late = await asyncio.wait(supervisors, timeout=self._stops_within)
        for _ in late:
            log.warning("a worker did not stop within %.0f s of SIGTERM; killing it", self._stops_within)
        await ended(*supervisors)

    async def _supervise(self, number: int) -> None:
        """Run the worker of this number, and start it again when it ends."""
        await self._run_once(number)
        pause = Backoff(FIRST_PAUSE, LONGEST_PAUSE, steady_after=STEADY_AFTER)
        lasted = 0.0
        while not self._stopping:
            wait = pause.next(lasted)
            log.warning("starting worker %d again in %.1f s", number, wait)
            await rest(wait)
            began = time.monotonic()
            try:
                await self._run_once(number)
            except (UserError, OSError) as error:
                log.error("worker %d did not start: %s", number, error)
            lasted = time.monotonic() - began

    async def _run_once(self, number: int) -> None:
        """One worker process from start to end. Raises UserError where it ends before it serves."""
        process = await asyncio.create_subprocess_exec(
            *_own_command(),
            "worker",
            str(number),
            stdin=PIPE,
            stdout=PIPE,
            env={**os.environ, MULTIPROCESS: str(self._metrics_dir)},
            start_new_session=True,  # a Ctrl-C at the terminal goes to the parent alone
        )
        self._processes[number] = process
        try:
            url = await self._wait_until_serving(process)
            log.info("worker %d (process %d) serves", number, process.pid)
            if self._never_served == {number}:
                log.info("%s in %d workers on %s", self._roles, self._count, url)
            self._never_served.discard(number)
            code = await process.wait()
            if not self._stopping:
                log.error("worker %d (process %d) %s", number, process.pid, _exit_reason(code))
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            del self._processes[number]
            forget_worker(number, self._metrics_dir)

    async def _wait_until_serving(self, process: Process) -> str:
        """Its URL, once it listens. Raises UserError where it does not."""
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(self._config)
        process.stdin.close()
        try:
            async with asyncio.timeout(STARTS_WITHIN):
                line = await process.stdout.readline()
        except TimeoutError:
            raise UserError(f"process {process.pid} did not serve within {STARTS_WITHIN:.0f} s") from None
        answer = json.loads(line) if line else {}
        if "listens" in answer:
            return str(answer["listens"])
        if "failed" in answer:
            raise UserError(answer["failed"])
        raise UserError(f"process {process.pid} {_exit_reason(await process.wait())} before it served")


@contextmanager
def metrics_directory() -> Iterator[Path]:
    """A directory for the workers' metrics, removed at the end. Removes those of parents that were killed."""
    for lock in Path(tempfile.gettempdir()).glob(f"{METRICS_PREFIX}*/lock"):
        with suppress(OSError):
            if lock.parent.stat().st_uid == os.geteuid():
                with lock.open("rb") as file:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    shutil.rmtree(lock.parent)
    directory = Path(tempfile.mkdtemp(prefix=METRICS_PREFIX))
    with (directory / "lock").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        try:
            yield directory
        finally:
            shutil.rmtree(directory, ignore_errors=True)


def _own_command() -> list[str]:
    """`python -m streamhub`, or the installed program: this process's command line without its arguments."""
    return [sys.executable, *sys.orig_argv[1 : len(sys.orig_argv) - len(sys.argv) + 1]]


def _exit_reason(code: int) -> str:
    if code < 0:
        return f"was killed by signal {-code} ({signal.strsignal(-code)})"
    return f"ended with exit code {code}"
