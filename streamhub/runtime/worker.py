"""One process of `serve --workers`, started by its parent. It is killed when its parent ends."""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import sys
from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import IO

import uvloop

from streamhub.config import Settings, load
from streamhub.errors import UserError
from streamhub.metrics import name_worker
from streamhub.postgres.connections import DATABASE_ERRORS
from streamhub.postgres.failures import explain
from streamhub.runtime import logs
from streamhub.runtime.process import Stopped, running_hub, stop_on_signals, unless_stopped
from streamhub.runtime.workers import WorkerConfig

log = logging.getLogger(__name__)

PR_SET_PDEATHSIG = 1

Answer = Callable[[str], None]


def read_config(stream: IO[str]) -> WorkerConfig:
    """The parent's JSON. Raises ValueError where it is none. Exits where the parent is gone."""
    # Before the first read: from here on the kernel kills this process when its parent dies.
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    config = WorkerConfig.parse(stream.read())
    if os.getppid() != config.parent:
        sys.exit("the process that started this worker is gone")
    return config


def run(number: int, config: WorkerConfig, answer: Answer) -> bool:
    """Serve until told to stop. False where an error ended it, which has been reported.

    `answer` gets one line for the parent: `{"listens": URL}` or `{"failed": reason}`.
    """
    settings = load(**config.overrides)
    logs.configure(settings.log_format, worker=number)
    name_worker(number)
    return uvloop.run(_work(settings, config, answer))


async def _work(settings: Settings, config: WorkerConfig, answer: Answer) -> bool:
    # A signal to the whole process group reaches this process twice, the second time by way of the parent.
    stop = stop_on_signals(second_ends=False)
    serving = False
    try:
        async with AsyncExitStack() as stack:
            starting = stack.enter_async_context(running_hub(settings, config.hub_url, config.sources, reuse_port=True))
            hub = await unless_stopped(stop, starting)
            answer(json.dumps({"listens": hub.server.url}))
            serving = True
            await hub.serve_until(stop)
        return True
    except Stopped:
        return True
    except (UserError, *DATABASE_ERRORS) as error:
        if serving:
            log.error("%s", explain(error))
        else:
            answer(json.dumps({"failed": explain(error)}))
        return False
