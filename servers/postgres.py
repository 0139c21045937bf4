"""A PostgreSQL as Debian packages it, with the settings that it comes with: what people have, and not what we bring."""

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
MISSING: Final = f"there is no PostgreSQL in {INSTALLED}: apt-get install postgresql-15"


class NoPostgresError(Exception):
    """Debian's PostgreSQL is not installed here; the message says how to get it."""


def installed() -> tuple[int, Path] | None:
    """(its major version, its programs): 15 where it is there, else the oldest after it that Debian has."""
    majors = sorted(int(path.parent.name) for path in INSTALLED.glob("[0-9]*/bin") if (path / "initdb").exists())
    return next(((major, INSTALLED / str(major) / "bin") for major in majors if major >= OLDEST), None)


class DebianPostgres:
    """`start()` … `stop()`; `url` is a superuser's. All of it is gone at the end, and ends with us."""

    def __init__(self, **settings: str) -> None:
        found = installed()
        if found is None:
            raise NoPostgresError(MISSING)
        self.major, self._programs = found
        self.base = data_directory("streamhub-postgres-")
        self.port = free_port()
        self.url = f"postgresql://postgres@127.0.0.1:{self.port}/postgres"
        self._settings = {"fsync": "off", **settings}
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        data = self.base / "data"
        user = account_for(data)
        uid, gid = (user.uid, user.gid) if user is not None else (-1, -1)
        become = [sys.executable, "-I", "-S", launcher.__file__, str(uid), str(gid), str(os.getpid())]
        data.mkdir(mode=0o700)
        os.chown(data, uid, gid)
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
        made = subprocess.run(
            [
                *become, str(self._programs / "initdb"), f"--pgdata={data}", "--username=postgres", "--auth=trust",
                "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync",
            ],
            env=environment, cwd=self.base, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        if made.returncode != 0:
            raise RuntimeError(f"initdb failed: {made.stderr}")
        settings = {"port": str(self.port), "listen_addresses": "127.0.0.1", "unix_socket_directories": str(data)}
        options = [f"--{name}={value}" for name, value in {**settings, **self._settings}.items()]
        with (self.base / "log").open("wb") as said:
            self._process = subprocess.Popen(
                [*become, str(self._programs / "postgres"), "-D", str(data), *options],
                env=environment, cwd=self.base, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
                start_new_session=True,
            )  # fmt: skip
        ends = time.monotonic() + STARTS_WITHIN
        while not self._ready(data):
            if self._process.poll() is not None or time.monotonic() > ends:
                said_last = (self.base / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"PostgreSQL {self.major} did not start: {said_last}")
            time.sleep(0.01)

    def _ready(self, data: Path) -> bool:
        try:
            lines = (data / "postmaster.pid").read_text().splitlines()
        except OSError:
            return False
        return len(lines) > 7 and lines[7].strip() == "ready"

    def stop(self) -> None:
        """At once: what was written is thrown away."""
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(signal.SIGQUIT)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(10)
        shutil.rmtree(self.base, ignore_errors=True)
