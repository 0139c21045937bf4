"""The files of an embedded server: its owner, whether it runs, and how to connect to it."""

from __future__ import annotations

import fcntl
import hashlib
import os
import socket
import subprocess
import time
from pathlib import Path

from streamhub.embedded.account import account
from streamhub.errors import UserError

DATABASE = "streamhub"
FIRST_PORT, LAST_PORT = 15432, 15531  # below the range of ports for outgoing connections
LOCK_WITHIN = 2.0  # seconds; a command that started the server for itself may be ending
LONGEST_SOCKET_DIRECTORY = 80  # bytes; the limit for a socket's path is 107


def base_directory(data_dir: Path) -> Path:
    return data_dir.resolve() / "postgresql"


def url_of_running(data_dir: Path, wait: float = 30.0) -> str | None:
    """The URL of the embedded server that another process runs in this directory; None where there is none.

    Waits up to `wait` seconds for a server that is starting. Raises UserError after that.
    """
    base = base_directory(data_dir)
    give_up = time.monotonic() + wait
    while _is_locked(base / "lock"):
        pid = postmaster_pid(base / "data")
        if pid is not None and serves(pid, base / "data") and postmaster_state(base / "data") == "ready":
            return url(base)
        if time.monotonic() > give_up:
            raise UserError(f"the PostgreSQL in {base} is still starting after {wait:.0f} s: see {base / 'log'}")
        time.sleep(0.05)
    return None


def has_server(data_dir: Path) -> bool:
    """Whether there is a server's data, or a process that makes them just now. It creates nothing. Raises UserError."""
    base = base_directory(data_dir)
    return (base / "data").is_dir() or _is_locked(base / "lock")


def url(base: Path) -> str:
    try:
        password = (base / "password").read_text().strip()
        port = int((base / "port").read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the port and password of the PostgreSQL in {base}: {error}") from error
    return f"postgresql://postgres:{password}@127.0.0.1:{port}/{DATABASE}"


def socket_directory(base: Path) -> Path:
    directory = base / "s"
    if len(os.fsencode(directory)) <= LONGEST_SOCKET_DIRECTORY:
        return directory
    return Path("/tmp") / f"streamhub-{hashlib.sha256(os.fsencode(base)).hexdigest()[:16]}"  # noqa: S108


# -- the lock of the process that runs the server


def lock(base: Path) -> int:
    """Create the directory and lock it. Returns the descriptor that holds the lock. Raises UserError."""
    try:
        base.mkdir(parents=True, exist_ok=True)
        if base.stat().st_uid == os.geteuid():
            base.chmod(0o711 if os.geteuid() == 0 else 0o700)
        descriptor = os.open(base / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise UserError(
            f"cannot use {base} for the embedded PostgreSQL ({error.strerror}): choose a directory that "
            f"{account(os.geteuid()).name} may write, for example --data-dir /tmp/streamhub"
        ) from error
    _lock_soon(descriptor, base)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def check_free(data_dir: Path) -> None:
    """Raises UserError where another process runs its server there. It creates nothing."""
    base = base_directory(data_dir)
    try:
        descriptor = os.open(base / "lock", os.O_RDWR)
    except OSError:
        return  # `lock` says what is wrong with it, if anything
    _lock_soon(descriptor, base)
    os.close(descriptor)


def _lock_soon(descriptor: int, base: Path) -> None:
    """Closes it where that is not possible within LOCK_WITHIN."""
    give_up = time.monotonic() + LOCK_WITHIN
    while not _try_lock(descriptor, fcntl.LOCK_EX):
        if time.monotonic() > give_up:
            holder = os.pread(descriptor, 20, 0).decode().strip() or "unknown"
            os.close(descriptor)
            raise UserError(
                f"another streamhub (process {holder}) runs its PostgreSQL in {base}: stop it, or choose "
                "another directory with --data-dir or STREAMHUB_DATA_DIR"
            )
        time.sleep(0.05)


def _is_locked(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise UserError(f"cannot open {path}: {error.strerror}; run as the user that runs the server") from error
    try:
        return not _try_lock(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


# -- postmaster.pid: PostgreSQL's own state


def postmaster_pid(data: Path) -> int | None:
    lines = _pid_file(data)
    return int(lines[0]) if lines and lines[0].isdigit() else None


def postmaster_state(data: Path) -> str:
    """starting, ready or stopping, as pg_ctl reads it; empty where there is none."""
    lines = _pid_file(data)
    return lines[7].strip() if len(lines) > 7 else ""


def _pid_file(data: Path) -> list[str]:
    try:
        return (data / "postmaster.pid").read_text().splitlines()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise UserError(f"cannot read {data}: {error.strerror}; run as the user that runs the server") from error


def serves(pid: int, data: Path) -> bool:
    """Whether this process is a PostgreSQL in this directory, and not another one with a dead server's pid."""
    if not Path("/proc/self").exists():  # not Linux
        listed = subprocess.run(["ps", "-o", "args=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return str(data) in listed.stdout
    try:
        return os.fsencode(data) in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


# -- port and password


def remembered_port(base: Path) -> int | None:
    try:
        return int((base / "port").read_text())
    except (OSError, ValueError):
        return None


def free_port(preferred: int | None, after: int = FIRST_PORT - 1) -> int:
    """A port of 127.0.0.1: `preferred`, else the first free one after `after`, else any."""
    for port in ([preferred] if preferred else []) + [*range(after + 1, LAST_PORT + 1), 0]:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            bound: int = probe.getsockname()[1]
            return bound
    raise UserError("no free TCP port on 127.0.0.1 for the embedded PostgreSQL")


def private(path: str, flags: int) -> int:
    """An `opener` for files that only their owner may read."""
    return os.open(path, flags, 0o600)
