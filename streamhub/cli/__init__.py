"""The command line: `streamhub COMMAND`, one command a file.

Data goes to stdout, messages to stderr. Exit code 0, 1 (it failed, with one sentence why) or 2 (wrong usage).
"""

from __future__ import annotations

import importlib
import signal
import sys
from typing import Any

import click

from streamhub import __version__
from streamhub.cli.output import discard_stdout, prepare_streams
from streamhub.errors import UserError

COMMANDS = {
    "demo": "A sample shop, the hub and a live view.",
    "serve": "The server.",
    "migrate": "Bring a database's schema up to date.",
    "org": "Organizations: the tenants whose streams the hub serves.",
    "capture": "Which tables are captured, and as what.",
    "token": "Print a token signed with the development key.",
    "key": "API keys, for what a scope opens.",
    "webhook": "Webhooks: each event by signed POST to an organization's endpoints.",
    "listen": "Print events as they happen, or forward them.",
    "replay": "Print a piece of history.",
    "publish": "Publish one event.",
    "doctor": "Check that everything is in order.",
}
"""What the help says of each; its file is imported once it is used."""
HIDDEN = ("worker",)


class Commands(click.Group):
    """Loads a command's file when it is used. Prints each expected failure as one sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return [*COMMANDS, *HIDDEN]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in COMMANDS and cmd_name not in HIDDEN:
            return None
        command: click.Command = importlib.import_module(f"streamhub.cli.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

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
        except _interruptions():
            sys.exit(128 + signal.SIGINT)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except Exception as error:
            said = _of_a_database(error)
            if said is None:
                raise
            message = said
        click.echo(f"streamhub: {message}", err=True)
        sys.exit(1)


def _interruptions() -> tuple[type[BaseException], ...]:
    """What asyncio raises is one where that was imported at all: it takes as long as all the rest."""
    asyncio = sys.modules.get("asyncio")
    return (KeyboardInterrupt,) if asyncio is None else (KeyboardInterrupt, asyncio.CancelledError)


def _of_a_database(error: Exception) -> str | None:
    """What one or the operating system said; None of any other error."""
    from streamhub.postgres.connections import DATABASE_ERRORS
    from streamhub.postgres.failures import explain

    return explain(error) if isinstance(error, DATABASE_ERRORS) else None


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
