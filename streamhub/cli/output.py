"""Tables on stdout: for people, or as JSON for programs. And streams that take whatever is written to them."""

from __future__ import annotations

import codecs
import contextlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table

Command = TypeVar("Command")

_IN_ASCII = {"…": "...", "→": "->", "×": "x", "–": "-", "—": "-", "·": "*"}


def prepare_streams() -> None:
    """No character is an error where a stream's encoding lacks it. A stream that was closed (`>&-`) takes what is
    written and drops it: without it the next file or socket would get its number."""
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
    """No reader is left, and what is still buffered would be an error at the end."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _nearest(error: UnicodeError) -> tuple[str | bytes, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    wrong = error.object[error.start : error.end]
    nearest = "".join(_IN_ASCII.get(character, character) for character in wrong)
    return nearest.encode("ascii", "backslashreplace").decode("ascii"), error.end


def json_option(command: Command) -> Command:
    option: Any = click.option("--json", "as_json", is_flag=True, help="One JSON array instead of a table.")
    decorated: Command = option(command)
    return decorated


def print_rows(rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """One line a row, never wrapped where a program reads it. As JSON: an array of objects, all their members."""
    if as_json:
        click.echo(orjson.dumps([dict(row) for row in rows], option=orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS))
        return
    table = Table(*columns, box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        table.add_row(*(_text(row[column]) for column in columns))
    width = None if sys.stdout.isatty() else 1000
    Console(width=width, highlight=False, markup=False).print(table)


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
