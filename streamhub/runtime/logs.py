"""Logs on stderr, one line each, as text or as JSON. No line has an API key in it, whatever it quotes."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from typing import Literal

import orjson

from streamhub.keys.key import masked


def configure(log_format: Literal["text", "json"], level: int = logging.INFO, worker: int | None = None) -> None:
    """`worker`: its number, in each line, where several processes share one stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(JsonLines(worker) if log_format == "json" else TextLines(worker))
    install(handler, level)


def install(handler: logging.Handler, level: int) -> None:
    logging.basicConfig(level=level, handlers=[handler], force=True)
    quiet_libraries()


def quiet_libraries() -> None:
    """Drop what libraries log about a server that is away: the hub logs that itself, in one line."""
    # It logs a traceback for each connection that it cannot restore.
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)
    # It logs a line for each attempt to connect.
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)


class TextLines(logging.Formatter):
    """`2026-11-22T10:00:00.123Z INFO  streamhub.relay: message`; of a worker `… INFO  [2] streamhub.relay: …`."""

    def __init__(self, worker: int | None) -> None:
        which = "" if worker is None else f"[{worker}] "
        super().__init__(f"%(asctime)s %(levelname)-7s {which}%(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802, ARG002
        return _time(record)

    def format(self, record: logging.LogRecord) -> str:
        return masked(super().format(record))


class JsonLines(logging.Formatter):
    """One object a line: time, level, logger, message; with workers `worker`, with a traceback `exception`."""

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, str | int] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self._worker is not None:
            line["worker"] = self._worker
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return masked(orjson.dumps(line).decode())


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
