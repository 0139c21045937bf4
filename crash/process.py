"""One role of the hub in its own process, under a supervisor: killed, stopped or terminated, and then started again.

It ends with this process: PR_SET_PDEATHSIG is SIGKILL, which ends a stopped process too.
"""

import asyncio
import logging
import re
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Final

from crash.faults import END, KILL, STOP
from servers.tied import tied

log = logging.getLogger(__name__)

ENDS_WITHIN: Final = 25.0  # seconds after SIGTERM
RESTARTED_AFTER: Final = 0.5
POLL_EVERY: Final = 0.02
LISTENS_WITHIN: Final = 60.0


class Role:
    """`streamhub serve` with these roles on this port. `report` gets a sentence about each unexpected end."""

    def __init__(
        self, name: str, roles: str, port: int, environment: Mapping[str, str], log: Path, report: Callable[[str], None]
    ) -> None:
        self.name = name
        self.port = port
        self._roles = roles
        self._environment = {**environment, "STREAMHUB_PORT": str(port)}
        self._log = log
        self._report = report
        self._process: subprocess.Popen[bytes] | None = None
        self._log_offset = 0  # where in the log the current process begins
        self._busy = asyncio.Lock()
        self.starts = 0
        self.failed_starts = 0

    def spawn(self) -> None:
        self._log_offset = self._log.stat().st_size if self._log.exists() else 0
        self.starts += 1
        with self._log.open("ab") as file:
            self._process = subprocess.Popen(
                tied([sys.executable, "-m", "streamhub", "serve", "--roles", self._roles]),
                stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=self._environment,
            )  # fmt: skip

    async def listening(self) -> None:
        """Returns when the process listens. Raises TimeoutError."""
        async with asyncio.timeout(LISTENS_WITHIN):
            while not self._listens():  # noqa: ASYNC110 - it polls a file
                await asyncio.sleep(POLL_EVERY)

    def _listens(self) -> bool:
        return re.search(rf" on http://\S+:{self.port}$", self._output(), re.MULTILINE) is not None

    def _output(self) -> str:
        """The log of the current process."""
        with self._log.open("rb") as file:
            file.seek(self._log_offset)
            return file.read().decode("utf-8", "replace")

    def logged(self) -> str:
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    @property
    def epoch(self) -> int:
        """The epoch of its last term as leader; 0 if it never led."""
        return max(map(int, re.findall(r"leading with epoch (\d+)", self.logged())), default=0)

    @property
    def actions(self) -> Mapping[str, Callable[[float], Awaitable[None]]]:
        return {KILL: self.kill, STOP: self.stop, END: self.end}

    async def kill(self, away: float) -> None:
        """kill -9, and a new start after `away` seconds."""
        async with self._busy:
            self._send(signal.SIGKILL)
            await self._ended(5)
            await asyncio.sleep(away)
            self.spawn()

    async def stop(self, seconds: float) -> None:
        """SIGSTOP for `seconds`."""
        async with self._busy:
            self._send(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._send(signal.SIGCONT)

    async def end(self, away: float) -> None:
        """SIGTERM, after which it must exit with 0, and a new start after `away` seconds."""
        async with self._busy:
            listened = self._listens()
            self._send(signal.SIGTERM)
            code = await self._ended(ENDS_WITHIN)
            if code is None:
                self._report(f"{self.name} did not end within {ENDS_WITHIN:.0f} s of SIGTERM")
                self._send(signal.SIGKILL)
                await self._ended(5)
            elif code != 0 and (listened or code != -signal.SIGTERM):
                self._report(f"{self.name} ended with {code} after SIGTERM: {self.last_line()}")
            await asyncio.sleep(away)
            self.spawn()

    async def supervise(self) -> None:
        """Start it again when it ends unexpectedly, and report that. A start that fails with an error message is no
        finding: its database may be away."""
        while True:
            await asyncio.sleep(0.25)
            if self._busy.locked() or self._process is None or self._process.poll() is None:
                continue
            if not self._listens() and self.last_line().startswith("streamhub: "):
                self.failed_starts += 1
                log.info("%s did not start: %s", self.name, self.last_line())
            else:
                self._report(f"{self.name} ended unexpectedly with {self._process.returncode}: {self.last_line()}")
            await asyncio.sleep(RESTARTED_AFTER)
            self.spawn()

    def close(self) -> None:
        """kill -9, without a new start."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def last_line(self) -> str:
        return self._output().strip().rpartition("\n")[2] or "it logged nothing"

    def tracebacks(self) -> int:
        return self.logged().count("Traceback (most recent call last)")

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)

    async def _ended(self, within: float) -> int | None:
        assert self._process is not None
        give_up = time.monotonic() + within
        while self._process.poll() is None:
            if time.monotonic() > give_up:
                return None
            await asyncio.sleep(POLL_EVERY)
        return self._process.returncode
