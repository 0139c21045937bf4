"""`streamhub demo`: a sample shop with traffic, the hub, and a view of what comes out of it."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path

import click
import uvloop
from rich.console import Console

from streamhub.cli.database import data_dir_option
from streamhub.config import load
from streamhub.demo.demo import Demo
from streamhub.runtime.process import check_ports

UNWATCHED_FOR = 20.0  # seconds


@click.command("demo")
@click.option("--port", metavar="PORT", help="The port to listen on (STREAMHUB_PORT); 8080 unless given.")
@click.option("--rate", type=click.FloatRange(0.1, 5000), default=20, show_default=True, help="Commits a second.")
@click.option("--no-traffic", is_flag=True, help="Only what you write yourself.")
@click.option("--for", "seconds", type=click.FloatRange(min=1), help="End after so many seconds, with a check.")
@data_dir_option
def command(port: str | None, rate: float, no_traffic: bool, seconds: float | None, data_dir: Path | None) -> None:
    """A sample shop in an embedded PostgreSQL, the hub on top of it, and a live view of its events.

    Prints a token and curl lines to paste. Ctrl-C ends everything and keeps the data: a second start goes on with it.
    Without a terminal it prints plain lines and ends after --for (20 s), having checked one live stream and one replay:
    exit code 0 if they delivered what was committed, 1 if not.

    \b
      streamhub demo
      streamhub demo --port 9000 --rate 200
      streamhub demo --for 20 | cat
    """
    settings = load(port=port, data_dir=data_dir).model_copy(
        update={"database_url": None, "source_urls": {}, "signing_key_file": None, "drain_time": timedelta(0)}
    )
    console = Console()
    if seconds is None and not console.is_terminal:
        seconds = UNWATCHED_FOR
    check_ports(settings, "demo")
    if not uvloop.run(Demo(settings, console, 0.0 if no_traffic else rate).run(seconds)):
        sys.exit(1)
