"""`streamhub serve`: the server, in one process or in several."""

from __future__ import annotations

from pathlib import Path

import click

from streamhub.cli.database import data_dir_option
from streamhub.runtime.serve import run
from streamhub.runtime.workers import MAX_WORKERS


class WorkersType(click.ParamType[int]):
    """How many processes."""

    name = "workers"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        text = str(value)
        number = int(text) if text.isascii() and text.isdigit() else 0
        if not 1 <= number <= MAX_WORKERS:
            self.fail(f"{text!r} is not a number from 1 to {MAX_WORKERS}, for example 4", param, ctx)
        return number


@click.command("serve")
@click.option("--roles", metavar="ROLE,…", help="relay, gateway, webhooks (STREAMHUB_ROLES). Default: all.")
@click.option("--host", help="The address to listen on (STREAMHUB_HOST). Default: 127.0.0.1.")
@click.option("--port", metavar="PORT", help="The port to listen on (STREAMHUB_PORT). Default: 8080.")
@click.option(
    "--workers", type=WorkersType(), default=1, metavar="N", help="The number of processes on the port. Default: 1."
)
@data_dir_option
def command(roles: str | None, host: str | None, port: str | None, workers: int, data_dir: Path | None) -> None:
    """Run the server until SIGTERM or Ctrl-C. Then it drains its streams and stops.

    It first migrates the hub's database and each source. Without STREAMHUB_DATABASE_URL it runs an embedded
    PostgreSQL in STREAMHUB_DATA_DIR. Logs go to stderr; STREAMHUB_LOG_FORMAT is text or json.

    \b
      streamhub serve
      streamhub serve --host 0.0.0.0 --port 9000 --workers 4
      STREAMHUB_DATABASE_URL=postgresql://hub:secret@db/hub streamhub serve --roles gateway
    """
    run({"roles": roles, "host": host, "port": port, "data_dir": data_dir}, workers)
