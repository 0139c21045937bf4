"""`streamhub serve`: the server."""

from __future__ import annotations

import logging
from pathlib import Path

import click
import uvloop

from streamhub.cli import logs
from streamhub.cli.database import data_dir_option
from streamhub.cli.process import check_port, hub_database, running_hub, stop_on_signals
from streamhub.config import Settings, load, unknown_variables

log = logging.getLogger(__name__)


@click.command("serve")
@click.option("--roles", metavar="ROLE,…", help="relay, gateway (STREAMHUB_ROLES); all unless given.")
@click.option("--host", help="The address to listen on (STREAMHUB_HOST); 127.0.0.1 unless given.")
@click.option("--port", metavar="PORT", help="The port to listen on (STREAMHUB_PORT); 8080 unless given.")
@data_dir_option
def command(roles: str | None, host: str | None, port: str | None, data_dir: Path | None) -> None:
    """Run the server, until SIGTERM or Ctrl-C, which drain its streams first.

    Brings the schema of the hub's database, and of each source, up to date. Without STREAMHUB_DATABASE_URL it runs a
    PostgreSQL of its own in STREAMHUB_DATA_DIR. Logs go to stderr, as STREAMHUB_LOG_FORMAT says (text or json).

    \b
      streamhub serve
      streamhub serve --host 0.0.0.0 --port 9000
      STREAMHUB_DATABASE_URL=postgresql://hub:secret@db/hub streamhub serve --roles gateway
    """
    settings = load(roles=roles, host=host, port=port, data_dir=data_dir)
    settings.require_verifiable_tokens()
    check_port(settings, "serve")
    logs.configure(settings.log_format)
    for sentence in unknown_variables():
        log.warning("%s", sentence)
    uvloop.run(_serve(settings))


async def _serve(settings: Settings) -> None:
    stop = stop_on_signals()
    async with hub_database(settings) as url, running_hub(settings, url) as hub:
        log.info("%s on %s", " and ".join(sorted(settings.roles - {"webhooks"})), hub.server.url)
        await hub.serve_until(stop)
    log.info("stopped")
