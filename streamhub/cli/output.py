"""Tables on stdout: for people, or as JSON for programs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import click
import orjson
from rich.console import Console
from rich.table import Table

Command = TypeVar("Command")


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
