"""The access log: a line when a request has been answered, and one when a stream begins. `/-/…` is left out."""

import logging
from typing import Final

from aiohttp import web
from aiohttp.abc import AbstractAccessLogger

from streamhub.keys.key import masked

LONGEST_METHOD: Final = 16
LONGEST_SEGMENT: Final = 63
OPERATORS: Final = "/-/"

log = logging.getLogger("aiohttp.access")


class AccessLog(AbstractAccessLogger):
    """The client's address, the method, the path alone (a query string or a header may hold a token), the
    status and the time that it took: of a stream, until its end."""

    def log(self, request: web.BaseRequest, response: web.StreamResponse, time: float) -> None:
        if not request.path.startswith(OPERATORS):
            self.logger.info("%s %d %.3fs", _asked(request), response.status, time)


def stream_begins(request: web.BaseRequest, status: int) -> None:
    log.info("%s %d stream begins", _asked(request), status)


def _asked(request: web.BaseRequest) -> str:
    method = request.method if len(request.method) <= LONGEST_METHOD else "…"
    path = getattr(request, "raw_path", request.path).partition("?")[0]  # as sent: no line break in it
    return f"{request.remote or '-'} {method} {_loggable(path)}"


def _loggable(path: str) -> str:
    """A path without API keys, and without what is longer than any slug or job: tokens go astray into paths, too."""
    shown = ("…" if len(segment) > LONGEST_SEGMENT else masked(segment) for segment in path[:1000].split("/"))
    return "/".join(shown)[:200]
