"""What a client of a hub raises.

StreamHubError
├── Refused             the hub said no: an answer that is no stream, or a `stream_error` that cannot be resumed
├── Unreachable         there is no hub at the address, of a client that `fails_fast`
└── IncompleteReplay    a replay that did not come whole
"""

import os
import socket
import ssl
from collections.abc import Mapping, Sequence
from typing import Any, Final

import aiohttp

_WORTH_ANOTHER_TRY: Final = frozenset({408, 409, 425, 429})


class StreamHubError(Exception):
    """Anything that ends a stream for good."""


class Refused(StreamHubError):  # noqa: N818 - what happened, in one word
    """The hub refuses. `status` is of the HTTP answer, 200 where a stream had begun. `code` is
    [the hub's](errors.md), or `HTTP_<status>` of an answer that is not a hub's; `errors` are all that the answer lists.
    `retry_after` is in seconds, None where the answer named no time."""

    def __init__(
        self,
        status: int,
        code: str,
        detail: str,
        errors: Sequence[Mapping[str, Any]] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(f"{code}: {detail}")
        self.status = status
        self.code = code
        self.detail = detail
        self.errors = tuple(errors)
        self.retry_after = retry_after

    @property
    def is_final(self) -> bool:
        """Whether the same request would be refused again."""
        return self.status < 500 and self.status not in _WORTH_ANOTHER_TRY


class Unreachable(StreamHubError):  # noqa: N818 - what happened, in one word
    """The first connection could not be made: its name is unknown, it is refused, or TLS fails."""


class IncompleteReplay(StreamHubError):  # noqa: N818 - what happened, in two words
    """A replay did not come whole. `events` is how many came, `last_id` the last of them, None where none did: a new
    replay may resume after it, unless `is_wrong`, where what came is not what the hub sent: begin again."""

    def __init__(self, reason: str, events: int, last_id: str | None, *, is_wrong: bool = False) -> None:
        super().__init__(f"the replay is incomplete after {events} events: {reason}")
        self.is_wrong = is_wrong
        self.events = events
        self.last_id = last_id


def reason_of(error: Exception) -> str:
    """In words, without a full stop: more follows in the line."""
    if isinstance(error, TimeoutError) and not str(error):
        return "no byte came in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return f"{error.host}:{error.port} cannot be reached: {_words(error.os_error)}"
    if isinstance(error, aiohttp.ClientPayloadError | aiohttp.ServerDisconnectedError):
        return "the connection broke off"
    return str(error).removesuffix(".") or type(error).__name__


def _words(error: OSError) -> str:
    """Neither a name that is unknown nor TLS has one of the system's error numbers."""
    if isinstance(error, socket.gaierror):
        return "the name cannot be resolved"
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted, {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        reason = getattr(error, "reason", None) or str(error)  # what OpenSSL said, where it said it
        return f"TLS fails, {reason.replace('_', ' ').lower()}"
    return os.strerror(error.errno) if error.errno else str(error)
