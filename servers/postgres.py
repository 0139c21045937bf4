"""Debian's PostgreSQL with Debian's settings, as many users run it."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

from servers.directories import data_directory
from servers.ports import free_port
from streamhub.embedded import launcher
from streamhub.embedded.account import account_for

OLDEST: Final = 15
INSTALLED: Final = Path("/usr/lib/postgresql")
STARTS_WITHIN: Final = 60.0  # seconds
MISSING: Final = f"no PostgreSQL is installed in {INSTALLED}: apt-get install postgresql-15"


class NoPostgresError(Exception):
    """Debian's PostgreSQL is not installed. The message says how to install it."""


def installed() -> tuple[int, Path] | None:
    """(major version, directory of programs) of the oldest installed one from 15 on; None where there is none."""
    majors = sorted(int(path.parent.name) for path in INSTALLED.glob("[0-9]*/bin") if (path / "initdb").exists())
    return next(((major, INSTALLED / str(major) / "bin") for major in majors if major >= OLDEST), None)


class DebianPostgres:
    """`start()` … `stop()`; `url` is a superuser's. `stop` removes its data. It ends with this process.

    `locales`: a directory of locales that this host does not have, as if another host ran it, until `move_here()`.
    """

    def __init__(self, *, locales: Path | None = None, **settings: str) -> None:
        found = installed()
        if found is None:
            raise NoPostgresError(MISSING)
        self.major, self.programs = found
        self.base = data_directory("streamhub-postgres-")
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._data = self.base / "data"
        self._locales = locales
        self._settings = {"fsync": "off", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        user = account_for(self._data)
        uid, gid = (user.uid, user.gid) if user is not None else (-1, -1)
        self._become = [sys.executable, "-I", "-S", launcher.__file__, str(uid), str(gid), str(os.getpid())]
        self._data.mkdir(mode=0o700)
        os.chown(self._data, uid, gid)
        made = subprocess.run(
            [
                *self._become, str(self.programs / "initdb"), f"--pgdata={self._data}", "--username=postgres",
                "--auth=trust", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
            ],
            env=self._environment(), cwd=self.base, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        self._run()

    def move_here(self) -> None:
        """Restart it with the locales of this host alone."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGINT)
            process.wait(60)
        self._locales = None
        self._run()

    def _environment(self) -> dict[str, str]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        return {**environment, "LOCPATH": str(self._locales)} if self._locales is not None else environment

    def _run(self) -> None:
        settings = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(self._data)}
        options = [f"--{name}={value}" for name, value in {**settings, **self._settings}.items()]
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*self._become, str(self.programs / "postgres"), "-D", str(self._data), *options],
                env=self._environment(), cwd=self.base, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        ends = time.monotonic() + STARTS_WITHIN
        while not self._ready():
            if self._process.poll() is not None or time.monotonic() > ends:
                log_tail = (self.base / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"PostgreSQL {self.major} did not start: {log_tail}")
            time.sleep(0.01)

    def _ready(self) -> bool:
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def stop(self) -> None:
        """Stop at once, and remove the data."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        shutil.rmtree(self.base, ignore_errors=True)
