"""`streamhub worker`: one process of `streamhub serve --workers`, started by it. Ends with it, however that ends."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

import click
import uvloop

from streamhub.config import Settings, load
from streamhub.errors import UserError
from streamhub.metrics import name_worker
from streamhub.postgres.connections import DATABASE_ERRORS
from streamhub.postgres.failures import explain
from streamhub.relay import Source
from streamhub.runtime import logs
from streamhub.runtime.process import Stopped, running_hub, stop_on_signals, unless_stopped
from streamhub.runtime.workers import HandOver

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1


@click.command("worker", hidden=True)
@click.argument("number", type=int)
def command(number: int) -> None:
    """One of the processes of `streamhub serve --workers`, which starts it; not for people.

    \b
      streamhub worker 1    # with a hand-over on its stdin
    """
    if sys.stdin.isatty():
        raise click.UsageError("streamhub serve --workers starts the workers: streamhub serve --workers 4")
    # Before the hand-over is read: a parent that dies from here on takes us along.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    handed = _read(sys.stdin.read())
    if os.getppid() != handed.parent:
        sys.exit("the process that wanted this worker is gone")
    settings = load(**handed.given)
    logs.configure(settings.log_format, worker=number)
    name_worker(number)
    if not uvloop.run(_work(settings, handed)):
        sys.exit(1)


def _read(text: str) -> HandOver:
    try:
        members: dict[str, Any] = json.loads(text)
    except ValueError:
        raise click.UsageError("no hand-over on stdin: streamhub serve --workers starts the workers") from None
    return HandOver(**{**members, "sources": [Source(*source) for source in members["sources"]]})


async def _work(settings: Settings, handed: HandOver) -> bool:
    """Until it is told to stop; false where something else ended it, which has been told."""
    # A signal to a whole group of processes reaches this one, and then the parent sends its own: one request to stop.
    stop = stop_on_signals(second_ends=False)
    serving = False
    try:
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_hub(settings, handed.hub_url, handed.sources, reuse_port=True))
            hub = await unless_stopped(stop, starting)
            _answer("listens", hub.server.url)
            serving = True
            await hub.serve_until(stop)
        return True
    except Stopped:
        return True
    except (UserError, *DATABASE_ERRORS) as error:
        if serving:
            log.error("%s", explain(error))
        else:
            _answer("failed", explain(error))
        return False


def _answer(name: str, value: str) -> None:
    click.echo(json.dumps({name: value}))
