"""`streamhub worker`: one process of `streamhub serve --workers`, which starts it."""

from __future__ import annotations

import sys

import click

from streamhub.runtime import worker

STARTED_BY = "streamhub serve --workers starts the workers"


@click.command("worker", hidden=True)
@click.argument("number", type=int)
def command(number: int) -> None:
    """One process of `streamhub serve --workers`, which starts it. It is not for people.

    \b
      streamhub worker 1    # with its configuration on stdin
    """
    if sys.stdin.isatty():
        raise click.UsageError(f"{STARTED_BY}: streamhub serve --workers 4")
    try:
        config = worker.read_config(sys.stdin)
    except ValueError:
        raise click.UsageError(f"no worker's configuration on stdin: {STARTED_BY}") from None
    if not worker.run(number, config, answer=click.echo):
        sys.exit(1)
