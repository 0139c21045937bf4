"""The tasks of a test."""

import asyncio
from typing import Any


async def ended(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel them until they end: on Python 3.11 `asyncio.wait_for` loses a cancellation that comes with its result."""
    while running := [task for task in tasks if not task.done()]:
        for task in running:
            task.cancel()
        await asyncio.wait(running, timeout=1)
