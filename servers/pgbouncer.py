"""Debian's PgBouncer in front of a server, in one of its modes."""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from servers.ports import free_port
from streamhub.embedded import launcher
from streamhub.embedded.account import account_for

MISSING: Final = "pgbouncer is not installed: apt-get install pgbouncer"
STARTS_WITHIN: Final = 20.0  # seconds


class NoPoolerError(Exception):
    """PgBouncer is not installed. The message says how to install it."""


class PgBouncer:
    """`start()` … `stop()`, in front of the server at `url`, trusting the user `postgres`. Ends with this process."""

    def __init__(self, url: str, mode: str, **settings: str) -> None:
        found = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
        if found is None:
            raise NoPoolerError(MISSING)
        self._program = found
        self.port = free_port()
        self.base = Path(tempfile.mkdtemp(prefix="streamhub-pgbouncer-"))
        self.base.chmod(0o755)  # it does not run as root
        server = urlsplit(url)
        (self.base / "users").write_text('"postgres" ""\n')
        # Everything else has PgBouncer's default.
        lines = {
            "listen_addr": "127.0.0.1",
            "listen_port": str(self.port),
            "unix_socket_dir": "",
            "auth_type": "trust",
            "auth_file": str(self.base / "users"),
            "pool_mode": mode,
            **settings,
        }
        (self.base / "pgbouncer.ini").write_text(
            f"[databases]\n* = host={server.hostname} port={server.port}\n[pgbouncer]\n"
            + "".join(f"{name} = {value}\n" for name, value in lines.items())
        )
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, database: str) -> str:
        return f"postgresql://postgres@127.0.0.1:{self.port}/{database}"

    def start(self) -> None:
        user = account_for(self.base / "none")
        uid, gid = (user.uid, user.gid) if user is not None else (-1, -1)
        with (self.base / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable, "-I", "-S", launcher.__file__, str(uid), str(gid), str(os.getpid()),
                    self._program, str(self.base / "pgbouncer.ini"),
                ],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        ends = time.monotonic() + STARTS_WITHIN
        while not self._listens():
            if self._process.poll() is not None or time.monotonic() > ends:
                raise RuntimeError(f"PgBouncer did not start: {(self.base / 'log').read_text(errors='replace')}")
            time.sleep(0.01)

    def _listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.port)) == 0

    def stop(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait(10)
        shutil.rmtree(self.base, ignore_errors=True)
