"""A start that a signal ends."""

import asyncio
import gc
from typing import Any

import pytest

from streamhub.errors import UserError
from streamhub.runtime.process import Stopped, unless_stopped


async def test_a_start_that_fails_just_when_it_is_stopped_leaves_no_traceback() -> None:
    async def starting() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            raise UserError("issuer.pem holds no public key")

    told: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: told.append(context))
    stop = asyncio.Event()
    loop.call_soon(stop.set)
    try:
        with pytest.raises(Stopped):
            await unless_stopped(stop, starting())
        gc.collect()
    finally:
        loop.set_exception_handler(None)
    assert told == []
