"""The command line: `streamhub COMMAND`, one command a file.

Data goes to stdout, messages to stderr. Exit code 0, 1 (it failed, with one sentence why) or 2 (wrong usage).
"""

from __future__ import annotations

import asyncio
import importlib
import signal
import sys
from typing import Any

import click

from streamhub import __version__
from streamhub.cli.output import discard_stdout, prepare_streams
from streamhub.errors import UserError
from streamhub.postgres.connections import DATABASE_ERRORS
from streamhub.postgres.failures import explain

COMMANDS = {
    "demo": "streamhub.cli.demo",
    "serve": "streamhub.cli.serve",
    "worker": "streamhub.cli.worker",
    "migrate": "streamhub.cli.migrate",
    "org": "streamhub.cli.org",
    "capture": "streamhub.cli.capture",
    "token": "streamhub.cli.token",
    "key": "streamhub.cli.key",
    "webhook": "streamhub.cli.webhook",
    "listen": "streamhub.cli.listen",
    "replay": "streamhub.cli.replay",
    "publish": "streamhub.cli.publish",
    "doctor": "streamhub.cli.doctor",
}


class Commands(click.Group):
    """Loads a command's file when it is used. Prints each expected failure as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name]).command
        return command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        prepare_streams()
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except BrokenPipeError:
            discard_stdout()
            sys.exit(128 + signal.SIGPIPE)
        except UserError as error:
            message = str(error)
        except DATABASE_ERRORS as error:
            message = explain(error)
        except (KeyboardInterrupt, asyncio.CancelledError):
            sys.exit(128 + signal.SIGINT)
        click.echo(f"streamhub: {message}", err=True)
        sys.exit(1)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="streamhub", message="%(prog)s %(version)s")
def main() -> None:
    """Streams committed PostgreSQL changes in order: live over SSE, and as replays.

    Settings are the environment's STREAMHUB_… variables. Without STREAMHUB_DATABASE_URL it runs an embedded
    PostgreSQL.

    \b
      streamhub demo                                 a sample shop, the hub and a live view
      streamhub serve                                the server
      streamhub org add my-org
      streamhub capture add public.skus --org my-org --resource-type skus
      streamhub token --org my-org
      streamhub listen --org my-org                  what happens, as it happens
    """
