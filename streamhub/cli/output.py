"""Output of commands: tables as text or JSON, a progress line, and standard streams that accept any character."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import click
import orjson

Command = TypeVar("Command")

_IN_ASCII = {"…": "...", "→": "->", "×": "x", "–": "-", "—": "-", "·": "*"}


def prepare_streams() -> None:
    """Replace characters that a stream's encoding lacks. Open a closed stream (`>&-`) on /dev/null, or else the next
    file or socket would get its number."""
    codecs.register_error("streamhub", _nearest)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = getattr(sys, name)
        if stream is None:
            with contextlib.suppress(OSError):
                os.fstat(number)
                continue
            mode = "r" if number == 0 else "w"
            opened = os.open(os.devnull, os.O_RDWR)  # the lowest number that is free
            setattr(sys, name, open(opened, mode, encoding="utf-8"))  # noqa: SIM115, PTH123
        elif number > 0 and isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="streamhub")


def discard_stdout() -> None:
    """Call it when the reader has gone: what is still buffered would be an error at exit."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    nearest = "".join(_IN_ASCII.get(character, character) for character in text)
    return nearest.encode("ascii", "backslashreplace").decode("ascii"), error.end


def json_option(command: Command) -> Command:
    option: Any = click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
    decorated: Command = option(command)
    return decorated


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """One line a row. Where that is wider than the terminal, one line a value, so that no id or secret is cut. As JSON:
    an array of objects with all members."""
    if as_json:
        click.echo(orjson.dumps([dict(row) for row in rows], option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    is_terminal = sys.stdout.isatty()
    console = Console(width=None if is_terminal else 1000, highlight=False, markup=False)
    if is_terminal and console.measure(table, options=console.options.update(width=10_000)).maximum > console.width:
        longest = max(map(len, columns))
        records = (
            "".join(f"{column:{longest}}  {text}\n" for column in columns if (text := _text(row[column])))
            for row in rows
        )
        click.echo("\n".join(records), nl=False)
        return
    console.print(table)


class ProgressLine:
    """Progress on stderr: one line that changes on a terminal, else a new line every 5 s."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._every = 0.2 if self._terminal else 5.0  # seconds
        self._last = time.monotonic()
        self._open = False

    def show(self, progress: object) -> None:
        now = time.monotonic()
        if now - self._last < self._every:
            return
        self._last = now
        click.echo(f"\r\x1b[K{progress}" if self._terminal else str(progress), err=True, nl=not self._terminal)
        self._open = self._terminal

    def end(self) -> None:
        """End the line, so that the next message begins a new one."""
        if self._open:
            click.echo(err=True)
            self._open = False


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        return ", ".join(str(item) for item in value)
    if isinstance(value, dict):
        return ", ".join(f"{name}={inner}" for name, inner in value.items())
    return str(value)
