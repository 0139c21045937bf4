"""What commands share that use a database: `--data-dir`, connections, and messages on stderr."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from streamhub.config import Settings
    from streamhub.postgres.connections import Connection

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


def hub_connection(settings: Settings) -> AbstractAsyncContextManager[Connection]:
    """As of `streamhub.databases`."""
    from streamhub import databases

    return databases.hub_connection(settings, report=say)


def source_connection(settings: Settings, name: str | None) -> AbstractAsyncContextManager[Connection]:
    """As of `streamhub.databases`."""
    from streamhub import databases

    return databases.source_connection(settings, name, report=say)
