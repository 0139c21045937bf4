"""The server: its cluster is created once, and it runs as a child process that ends with its parent.

The kernel sends it SIGINT (fast shutdown) when the thread that started it ends, for any reason. So call `start` in a
thread that lives as long as the server. A start waits until an earlier server has shut down.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

from streamhub.embedded import directory
from streamhub.embedded.account import Account, account_for, installed_binaries, reachable_binaries
from streamhub.errors import UserError

log = logging.getLogger(__name__)

READY_WITHIN = 600.0  # seconds; replaying WAL after a crash may take minutes
EARLIER_STOPS_WITHIN = 60.0
MAX_LOG = 10 * 1024 * 1024  # bytes; a larger file is renamed at the next start

# For the hub's load on a small machine: many small durable commits, and an outbox that fills and empties all the time.
# min_wal_size keeps WAL segments for reuse. A new segment is first filled with zeros and synced: no commit ends for
# 10 ms or more, three times a second in a backfill.
SETTINGS: Mapping[str, str | int] = {
    "listen_addresses": "127.0.0.1",
    "max_connections": 200,
    "shared_buffers": "256MB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "min_wal_size": "1GB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "autovacuum_naptime": "15s",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_checkpoints": "off",
    "log_line_prefix": "%m [%p] ",
    "cluster_name": "streamhub",
}


class EmbeddedPostgres:
    """`async with EmbeddedPostgres(data_dir) as pg:` or `start()` … `stop()`; any client can use `pg.url`.

    `settings` are PostgreSQL settings and win over SETTINGS. `report` gets a sentence about each slow step of a start.
    """

    def __init__(
        self,
        data_dir: Path,
        settings: Mapping[str, str | int] | None = None,
        *,
        report: Callable[[str], None] = log.info,
    ) -> None:
        self.base = directory.base_directory(data_dir)
        self.data = self.base / "data"
        self.bin_dir = installed_binaries()
        self._settings = {**SETTINGS, **(settings or {})}
        self._report = report
        self._run_as: Account | None = None
        self._server_bin = self.bin_dir
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._program: subprocess.Popen[str] | None = None
        self._cancelled = threading.Event()
        self._lock: int | None = None
        self._log_offset = 0

    # -- for clients

    @property
    def url(self) -> str:
        return directory.url(self.base)

    @property
    def socket_directory(self) -> Path:
        return directory.socket_directory(self.base)

    @property
    def pid(self) -> int | None:
        """The pid of the running postmaster; None where none runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    # -- starting

    def start(self) -> None:
        """Start, and return when the server accepts connections. Raises UserError."""
        try:
            self._prepare()
            while True:
                self._spawn()
                if self._wait_until_ready():
                    return
        except BaseException:
            self.stop("immediate")
            raise

    async def start_async(self) -> None:
        """As `start`, without blocking the event loop. The server ends with the loop's thread."""
        try:
            await asyncio.to_thread(self._prepare)
            while True:
                self._spawn()
                if await asyncio.to_thread(self._wait_until_ready):
                    return
        except BaseException:
            self.stop("immediate")
            raise

    def _prepare(self) -> None:
        self._cancelled.clear()
        self._run_as = account_for(self.data)
        if self._lock is None:
            self._lock = directory.lock(self.base)
        self._wait_for_earlier_server()
        self._server_bin = reachable_binaries(self.bin_dir, self._run_as, self.base)
        for left_over in (self.base / "data.new", self.socket_directory):
            shutil.rmtree(left_over, ignore_errors=True)
        self._own(self.socket_directory)
        if not (self.data / "PG_VERSION").exists():
            self._create_cluster()
        version = (self.data / "PG_VERSION").read_text().strip()
        if version != "18":
            raise UserError(
                f"{self.data} is of PostgreSQL {version}, and this is PostgreSQL 18: move it away, or choose "
                "another directory, for example STREAMHUB_DATA_DIR=/var/lib/streamhub-18"
            )
        if not (self.base / "password").exists():
            self._set_password(self.data)
        self._port = directory.free_port(directory.remembered_port(self.base))

    def _wait_for_earlier_server(self) -> None:
        """Wait for the server of a streamhub that was killed. It should be shutting down; after 1 s send it SIGINT."""
        pid = directory.postmaster_pid(self.data)
        started = time.monotonic()
        signalled = False
        while pid is not None and directory.serves(pid, self.data):
            if self._cancelled.is_set():
                raise UserError("the start was cancelled")
            waited = time.monotonic() - started
            if waited > EARLIER_STOPS_WITHIN:
                raise UserError(
                    f"a PostgreSQL (process {pid}) runs in {self.data} and does not stop: kill -INT {pid} stops it"
                )
            if waited > 1 and not signalled:
                signalled = True
                self._report(f"waiting for an earlier PostgreSQL (process {pid}) to shut down")
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGINT)
            time.sleep(0.05)
        # The file names a process that is gone. Another process may have its pid by now, and PostgreSQL would take that
        # one for a running server.
        (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _create_cluster(self) -> None:
        """Create it in data.new with its password and database, then rename it: all or nothing."""
        new = self.base / "data.new"
        self._own(new)
        self._run(
            "initdb",
            f"--pgdata={new}",
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--auth-local=trust",
            "--auth-host=scram-sha-256",
        )
        self._single_user(new, f"CREATE DATABASE {directory.DATABASE}")
        self._set_password(new)
        new.rename(self.data)

    def _set_password(self, data: Path) -> None:
        password = secrets.token_hex(12)
        self._single_user(data, f"ALTER ROLE postgres PASSWORD '{password}'")
        with open(self.base / "password", "w", opener=directory.private) as file:
            file.write(password + "\n")

    def _single_user(self, data: Path, statement: str) -> None:
        self._run("postgres", "--single", "-c", "exit_on_error=on", "-D", str(data), "postgres", text=statement)

    def _spawn(self) -> None:
        """Start the process. The server ends with the thread that calls this."""
        (self.base / "port").write_text(f"{self._port}\n")
        log_file = self.base / "log"
        if log_file.exists() and log_file.stat().st_size > MAX_LOG:
            log_file.rename(log_file.with_suffix(".1"))
        settings = {
            **self._settings,
            "port": self._port,
            "unix_socket_directories": self.socket_directory,
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        with open(log_file, "ab", opener=directory.private) as output:
            self._log_offset = output.tell()
            self._process = subprocess.Popen(
                [*self._launcher(), str(self._server_bin / "postgres"), "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                cwd=self.base,
                env=_environment(),
                start_new_session=True,  # a Ctrl-C at the terminal does not reach the server
            )

    def _wait_until_ready(self) -> bool:
        """False: it did not start, and a retry may help. Raises UserError where it cannot."""
        process, started = self._process, time.monotonic()
        assert process is not None
        next_report = 5.0
        while process.poll() is None:
            if directory.postmaster_pid(self.data) == process.pid and directory.postmaster_state(self.data) == "ready":
                return True
            waited = time.monotonic() - started
            if waited > READY_WITHIN:
                raise UserError(f"PostgreSQL was not ready after {READY_WITHIN:.0f} s: see {self.base / 'log'}")
            if waited > next_report:
                self._report(f"PostgreSQL is recovering from a crash ({waited:.0f} s so far)")
                next_report += 15
            time.sleep(0.01)
        output = self._new_output()
        if "Address already in use" in output:
            self._port = directory.free_port(None, after=self._port)
            return False
        if "pre-existing shared memory block" in output:  # backends of a killed postmaster are still ending
            time.sleep(0.2)
            return False
        raise UserError(f"PostgreSQL did not start in {self.base}: {_last_error(output)} (more in {self.base / 'log'})")

    def _new_output(self) -> str:
        with (self.base / "log").open("rb") as log_file:
            log_file.seek(self._log_offset)
            return log_file.read(64 * 1024).decode(errors="replace")

    # -- stopping

    def stop(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Shut down and unlock the directory. After a minute, kill. A start in another thread raises UserError."""
        self._cancelled.set()
        if (program := self._program) is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(program.pid, signal.SIGKILL)  # initdb starts more programs
        self._end_server(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        if self._lock is not None:
            shutil.rmtree(self.socket_directory, ignore_errors=True)
            os.close(self._lock)
            self._lock = None

    def kill(self) -> None:
        """kill -9 of the postmaster, as in a crash. The directory stays locked for the next `start`."""
        self._end_server(signal.SIGKILL)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop and start the server on the same port. `immediate`: without a clean shutdown."""
        self._end_server(signal.SIGINT if mode == "fast" else signal.SIGQUIT)
        self.start()

    def _end_server(self, first: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        for number, patience in ((first, 60.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0)):
            if process.poll() is None:
                process.send_signal(number)
            try:
                process.wait(patience)
                return
            except subprocess.TimeoutExpired:
                log.warning(
                    "PostgreSQL (process %d) did not stop within %.0f s of %s", process.pid, patience, number.name
                )

    async def __aenter__(self) -> Self:
        await self.start_async()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.to_thread(self.stop)

    # -- programs and files of PostgreSQL's user

    def _launcher(self) -> Sequence[str]:
        account = self._run_as
        launcher = Path(__file__).with_name("launcher.py")
        uid, gid = (account.uid, account.gid) if account is not None else (-1, -1)
        return [sys.executable, "-I", "-S", str(launcher), str(uid), str(gid), str(os.getpid())]

    def _run(self, program: str, *arguments: str, text: str = "") -> None:
        if self._cancelled.is_set():
            raise UserError("the start was cancelled")
        with subprocess.Popen(
            [*self._launcher(), str(self._server_bin / program), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.base,
            env=_environment(),
            start_new_session=True,
        ) as running:
            self._program = running
            try:
                if self._cancelled.is_set():  # `stop` ran before `_program` was set
                    running.kill()
                _, errors = running.communicate(text, timeout=300)
            finally:
                running.kill()
                self._program = None
        if running.returncode != 0:
            raise UserError(f"{program} failed in {self.base}: {_last_error(errors)}")

    def _own(self, path: Path) -> None:
        """Create a directory that only PostgreSQL's user (and root) may enter. Raises UserError where it exists."""
        try:
            path.mkdir(mode=0o700)
        except FileExistsError as error:
            raise UserError(f"{path} is in the way of the embedded PostgreSQL: remove it") from error
        if self._run_as is not None:
            os.chown(path, self._run_as.uid, self._run_as.gid)


def _environment() -> dict[str, str]:
    """This process's environment without the variables of libpq and PostgreSQL."""
    return {**{name: value for name, value in os.environ.items() if not name.startswith("PG")}, "LC_ALL": "C"}


def _last_error(output: str) -> str:
    lines = [line for line in output.splitlines() if line.strip()]
    errors = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "ERROR", "error", "cannot"))]
    return (errors or lines or ["it logged nothing"])[-1].strip()
