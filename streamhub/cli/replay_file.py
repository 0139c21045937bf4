"""The file that a replay is written to: one event a line, which an interrupted replay is resumed from."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO, Final, Self

from streamhub.client import Event
from streamhub.errors import UserError

LONGEST_LINE: Final = 64 * 1024 * 1024

_LINE: Final = re.compile(rb'\{"id":"([0-9a-f-]{36})",.*\}\n', re.DOTALL)
_START: Final = b'{"id":"'

Wrong = Callable[[bytes], str | None]


class ReplayFile:
    """Use it in a `with`. It is the position of a replay too: the last event that is whole in the file.

    `events` is how many are in it. What is no regular file, such as a pipe, is written to and never read.
    """

    def __init__(self, path: Path, wrong: Wrong) -> None:
        """`wrong` says why an event cannot be of the replay that is asked for; it sees the first and the last."""
        self.path = path
        self.events = 0
        self._wrong = wrong
        self._last_id: str | None = None
        self._size = 0  # bytes, when it was opened
        self._file: IO[bytes]

    def __enter__(self) -> Self:
        try:
            self._file = self._opened()
        except OSError as error:
            raise self._failure(error) from None
        try:
            if self._is_regular:
                self._lock()
                self._read()
        except BaseException:
            self._file.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            with self._file:
                self._file.flush()
                if self._is_regular:
                    os.fsync(self._file.fileno())
        except OSError as error:
            raise self._failure(error) from None

    def write(self, events: list[Event]) -> None:
        """Raises UserError where the file cannot be written."""
        try:
            self._file.write(b"".join([event.raw + b"\n" for event in events]))
        except OSError as error:
            raise self._failure(error) from None
        self.events += len(events)

    async def load(self) -> str | None:
        return self._last_id

    def forget(self) -> None:
        """Cut off what was written since it was opened."""
        try:
            self._file.flush()
            if self._is_regular:
                self._file.truncate(self._size)
        except OSError as error:
            raise self._failure(error) from None

    async def store(self, id: str) -> None:  # noqa: ARG002 - the last line tells it
        """What was written before is handed to the system, so that a crash of ours loses nothing of it."""
        try:
            self._file.flush()
        except OSError as error:
            raise self._failure(error) from None

    # -- opening

    def _opened(self) -> IO[bytes]:
        if self.path.exists() and not self.path.is_file():
            return self.path.open("wb")
        return os.fdopen(os.open(self.path, os.O_RDWR | os.O_CREAT, 0o666), "r+b")

    @property
    def _is_regular(self) -> bool:
        return stat.S_ISREG(os.fstat(self._file.fileno()).st_mode)

    def _lock(self) -> None:
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(f"another process writes {self.path}: wait for its end, or name another file") from None

    def _read(self) -> None:
        """Find the last whole event, and cut off what follows it: a line that was not written to its end."""
        whole, last = 0, b""
        while line := self._file.readline(LONGEST_LINE):
            found = _LINE.fullmatch(line)
            if found is None:
                if line.endswith(b"\n") or not (line.startswith(_START) or _START.startswith(line)):
                    raise UserError(
                        f"line {self.events + 1} of {self.path} is no event, so it is not the file of a replay: name "
                        "another file"
                    )
                break
            id_ = found[1].decode()
            if self._last_id is not None and id_ <= self._last_id:
                raise UserError(
                    f"line {self.events + 1} of {self.path} is not newer than the one before, so it is not the file of "
                    "a replay: name another file"
                )
            if self._last_id is None:
                self._check(line)
            self.events += 1
            self._last_id, last = id_, line
            whole += len(line)
        if last:
            self._check(last)
        self._size = whole
        self._file.seek(whole)
        self._file.truncate()

    def _check(self, line: bytes) -> None:
        try:
            wrong = self._wrong(line)
        except (ValueError, LookupError, TypeError):
            wrong = "it is no event"
        if wrong:
            raise UserError(
                f"{self.path} is the file of another replay ({line[len(_START) : len(_START) + 36].decode()} is "
                f"{wrong}): name another file, or remove it"
            )

    def _failure(self, error: OSError) -> UserError:
        return UserError(f"cannot write {self.path}: {error.strerror or error}")
