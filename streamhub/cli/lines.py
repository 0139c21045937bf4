"""Events on a terminal: a line each, in colors where the reader has them."""

from __future__ import annotations

import os
import shutil
import sys

import click

from streamhub.client import Event
from streamhub.core import ids
from streamhub.core.summary import printable, summary

COLORS = {"create": "green", "update": "cyan", "destroy": "red"}
OTHER_COLOR = "magenta"
WIDTHS = (24, 14)  # of type and resource id, which may be longer
NARROWEST = 40


class EventLines:
    """`10:00:00.123  skus.update  AYqPSwAqDW  price 10.00 → 12.50`, in local time. No line is wider than the terminal.
    Without a terminal, with NO_COLOR or TERM=dumb there are no colors."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._colors = self._terminal and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"

    def show(self, event: Event, behind: str = "") -> None:
        """`behind` is said at the end of the line, whatever its length."""
        data = event.json
        when = ids.datetime_of(ids.milliseconds(event.id)).astimezone()
        time = f"{when:%H:%M:%S}.{when.microsecond // 1000:03}"
        type_ = printable(event.type).ljust(WIDTHS[0])
        resource = printable(event.resource_id or "").ljust(WIDTHS[1])
        said = ("test  " if event.test else "") + summary(data)
        room = self._room(len(time) + len(type_) + len(resource) + 6 + len(behind))
        if room is not None and len(said) > room:
            said = said[: max(room - 1, 0)] + "…"
        parts = [
            self._styled(time, dim=True),
            self._styled(type_, fg=COLORS.get(event.event, OTHER_COLOR)),
            resource,
            f"{said}{behind}",
        ]
        sys.stdout.write("  ".join(parts).rstrip() + "\n")
        sys.stdout.flush()

    def _room(self, taken: int) -> int | None:
        """Characters that are left on the line; None where it may have any length."""
        return max(shutil.get_terminal_size().columns, NARROWEST) - taken if self._terminal else None

    def _styled(self, text: str, *, fg: str | None = None, dim: bool = False) -> str:
        return click.style(text, fg=fg, dim=dim or None) if self._colors else text


class JsonLines:
    """The object of an event as it came, a line each."""

    def show(self, event: Event) -> None:
        sys.stdout.buffer.write(event.raw + b"\n")
        sys.stdout.buffer.flush()
