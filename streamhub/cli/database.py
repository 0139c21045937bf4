"""What commands share that use a database: `--data-dir`, connections, and messages on stderr."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import click

from streamhub import databases

Command = TypeVar("Command")


def data_dir_option(command: Command) -> Command:
    """`--data-dir`, for every command that may use the embedded PostgreSQL."""
    option: Any = click.option(
        "--data-dir",
        type=click.Path(file_okay=False, path_type=Path),
        help="The directory of the embedded PostgreSQL and the development key (STREAMHUB_DATA_DIR).",
    )
    decorated: Command = option(command)
    return decorated


def say(message: str) -> None:
    """Messages go to stderr."""
    click.echo(message, err=True)


hub_connection = partial(databases.hub_connection, report=say)
source_connection = partial(databases.source_connection, report=say)
