"""`streamhub demo`: a sample shop with traffic, the hub, and a live view of its events."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from streamhub.cli.database import data_dir_option


@click.command("demo")
@click.option("--port", metavar="PORT", help="The port to listen on (STREAMHUB_PORT). Default: 8080.")
@click.option("--rate", type=click.FloatRange(0.1, 5000), default=20, show_default=True, help="Commits a second.")
@click.option("--no-traffic", is_flag=True, help="No sample traffic, only your own writes.")
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="Stop after this many seconds, with a check.")
@data_dir_option
def command(port: str | None, rate: float, no_traffic: bool, seconds: float | None, data_dir: Path | None) -> None:
    """Run a sample shop in an embedded PostgreSQL, the hub on top of it, and a live view of its events.

    Prints a token and curl lines to paste. Ctrl-C stops everything and keeps the data for the next start. Without a
    terminal it prints plain lines and stops after --for (20 s). Then it checks one live stream and one replay: exit
    code 0 if they delivered every commit, else 1.

    \b
      streamhub demo
      streamhub demo --port 9000 --rate 200
      streamhub demo --for 20 | cat
    """
    from streamhub.demo.demo import run

    if not run({"port": port, "data_dir": data_dir}, rate=0.0 if no_traffic else rate, seconds=seconds):
        sys.exit(1)
