"""Data directories with a cluster of the embedded PostgreSQL in them: copies of one that this process creates once.

`initdb` and what follows it take over a second of processor time; a copy takes a twentieth of that.
"""

import atexit
import shutil
import subprocess
from functools import cache
from pathlib import Path
from typing import Final

from servers.directories import data_directory
from servers.ports import free_port
from streamhub.embedded import EmbeddedPostgres

COPIED_WITHIN: Final = 60.0  # seconds


def cluster_directory() -> Path:
    """A new data directory as an `EmbeddedPostgres` leaves it that was started once and stopped; the caller removes it.

    Its port is one of this process's: the first free one of the server's own range would be another server's as soon as
    this one is stopped.
    """
    directory = data_directory()
    _copy(_pattern(), directory)
    (directory / "postgresql" / "port").write_text(f"{free_port()}\n")
    return directory


@cache
def _pattern() -> Path:
    directory = data_directory("streamhub-cluster-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    postgres = EmbeddedPostgres(directory, {"fsync": "off"})
    postgres.start()
    postgres.stop()
    return directory


def _copy(pattern: Path, directory: Path) -> None:
    """With its owner, who is another user where we are root; programs, where the server needs its own, as links."""
    base = directory / "postgresql"
    base.mkdir()
    base.chmod((pattern / "postgresql").stat().st_mode & 0o777)
    for part in (pattern / "postgresql").iterdir():
        if part.name in ("data", "password"):
            subprocess.run(["cp", "--archive", str(part), str(base)], check=True, timeout=COPIED_WITHIN)
        elif part.name.startswith("server-"):
            subprocess.run(["cp", "--archive", "--link", str(part), str(base)], check=True, timeout=COPIED_WITHIN)
