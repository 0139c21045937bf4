"""Reading one page ahead: while the caller is busy with a page, the next one is read, and no more."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import TypeVar

from streamhub.cancellation import ended

T = TypeVar("T")


async def one_ahead(pages: AsyncGenerator[T, None]) -> AsyncGenerator[T, None]:
    """All of `pages`, which is closed at the end; use it within `aclosing`."""
    async with aclosing(pages):

        async def following() -> T | None:
            return await anext(pages, None)

        coming = asyncio.create_task(following())
        try:
            while (page := await coming) is not None:
                coming = asyncio.create_task(following())
                yield page
        finally:
            await ended(coming)
