"""Names of hosts, looked up by the system's resolver in threads of their own.

A lookup blocks its thread until a name server answers: for 10 s and longer where none does, and it cannot be stopped.
The event loop has few threads for that (libuv looks up two names at a time), which the rest of the process needs, too.
So one name whose servers are silent would hold up every other one. Here each name has one lookup under way, for all who
ask, and an organization has its share of them.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from contextvars import ContextVar
from typing import Any, Final

from streamhub.webhooks.shares import share_of

MOST_LOOKUPS: Final = 256  # under way, each of them a thread

Found = list[tuple[Any, ...]]  # as getaddrinfo gives it
_Asked = tuple[str, int, int]  # host, port and family

# Whose attempt looks a name up. What stands between, aiohttp's connector, tells only the name.
asking_organization: ContextVar[int] = ContextVar("asking_organization", default=0)


class Lookups:
    """Of one event loop at a time."""

    def __init__(self, most: int = MOST_LOOKUPS) -> None:
        self._most = most
        self._under_way: dict[_Asked, asyncio.Future[Found]] = {}
        self._of: Counter[int] = Counter()  # by organization
        self._ended = asyncio.Event()

    async def find(self, host: str, port: int, family: int) -> Found:
        """Raises OSError, and UnicodeError for what is no name. It may take for ever: the caller limits that."""
        asked, organization = (host, port, family), asking_organization.get()
        while asked not in self._under_way:
            if self._of[organization] < share_of(self._most - len(self._under_way), is_first=False):
                self._begin(asked, organization)
            else:
                await self._ended.wait()
        return await asyncio.shield(self._under_way[asked])

    def _begin(self, asked: _Asked, organization: int) -> None:
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Found] = loop.create_future()

        def look_up() -> None:
            answer: Found | Exception
            try:
                answer = socket.getaddrinfo(asked[0], asked[1], asked[2], socket.SOCK_STREAM)
            except Exception as error:  # noqa: BLE001 - it is raised where it was asked for
                answer = error
            with contextlib.suppress(RuntimeError):  # the loop was closed meanwhile
                loop.call_soon_threadsafe(self._end, asked, organization, found, answer)

        threading.Thread(target=look_up, name="webhooks: look up", daemon=True).start()
        self._under_way[asked] = found
        self._of[organization] += 1

    def _end(self, asked: _Asked, organization: int, found: asyncio.Future[Found], answer: Found | Exception) -> None:
        del self._under_way[asked]
        self._of[organization] -= 1
        if not self._of[organization]:
            del self._of[organization]
        if isinstance(answer, Exception):
            found.set_exception(answer)
            found.exception()  # those who asked may have left
        else:
            found.set_result(answer)
        self._ended.set()
        self._ended = asyncio.Event()
