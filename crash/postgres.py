"""The PostgreSQL of a run, with fsync on: killed, stopped or shut down, and then started again on the same port."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import asyncpg

from crash.faults import BACKEND, END, IMMEDIATE, KILL, POSTGRES, STOP
from streamhub.embedded import EmbeddedPostgres

SETTINGS: Final = {
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "deadlock_timeout": "100ms",
    "checkpoint_timeout": "30s",
}


class Postgres:
    """`report` gets a sentence when it ends unexpectedly."""

    def __init__(self, directory: Path, port: int, report: Callable[[str], None]) -> None:
        self._server = EmbeddedPostgres(directory, SETTINGS)
        self._server.base.mkdir()
        (self._server.base / "port").write_text(f"{port}\n")
        self._port = port
        self._report = report
        self._busy = asyncio.Lock()

    async def start(self) -> None:
        await self._server.start_async()
        found = urlsplit(self._server.url).port
        if found != self._port:
            raise SystemExit(
                f"PostgreSQL came back on port {found} instead of {self._port}: another process took its port"
            )

    def url(self, database: str) -> str:
        return urlsplit(self._server.url)._replace(path=f"/{database}").geturl()

    @property
    def name(self) -> str:
        return POSTGRES

    @property
    def actions(self) -> Mapping[str, Callable[[float], Awaitable[None]]]:
        return {
            KILL: self.kill, STOP: self.stop, END: self.end, IMMEDIATE: self.immediate, BACKEND: self.backend,
        }  # fmt: skip

    async def kill(self, away: float) -> None:
        """kill -9 of the postmaster. Its children end by themselves."""
        async with self._busy:
            await asyncio.to_thread(self._server.kill)
            await asyncio.sleep(away)
            await self.start()

    async def immediate(self, away: float) -> None:
        """As after a power cut, except that the kernel writes its buffers."""
        await self._shut_down(signal.SIGQUIT, away)

    async def end(self, away: float) -> None:
        """A fast shutdown: a clean one that ends all sessions."""
        await self._shut_down(signal.SIGINT, away)

    async def backend(self, _: float) -> None:
        """kill -9 of one session's process. PostgreSQL then ends all sessions and recovers."""
        async with self._busy:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self.url("hub"), timeout=5)
                os.kill(connection.get_server_pid(), signal.SIGKILL)
                connection.terminate()

    async def stop(self, seconds: float) -> None:
        """SIGSTOP of all its processes for `seconds`."""
        async with self._busy:
            postmaster = self._server.pid
            if postmaster is None:
                return
            stopped = [postmaster]
            os.kill(postmaster, signal.SIGSTOP)  # first, so that it starts no new processes
            children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text(encoding="ascii")
            for child in map(int, children.split()):
                with suppress(ProcessLookupError):
                    os.kill(child, signal.SIGSTOP)
                    stopped.append(child)
            try:
                await asyncio.sleep(seconds)
            finally:
                for pid in reversed(stopped):
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGCONT)

    async def supervise(self) -> None:
        """Start it again when it ends unexpectedly, and report that."""
        while True:
            await asyncio.sleep(0.25)
            if not self._busy.locked() and self._server.pid is None:
                self._report("PostgreSQL ended unexpectedly")
                await self.start()

    def close(self) -> None:
        self._server.stop("immediate")

    async def _shut_down(self, number: signal.Signals, away: float) -> None:
        async with self._busy:
            pid = self._server.pid
            if pid is not None:
                os.kill(pid, number)
                async with asyncio.timeout(30):
                    while self._server.pid is not None:  # noqa: ASYNC110 - a process's end
                        await asyncio.sleep(0.02)
            await asyncio.sleep(away)
            await self.start()
