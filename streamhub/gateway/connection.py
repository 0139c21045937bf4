"""One HTTP connection: aiohttp's, which also says how it ended, and refuses what is no HTTP in the one error format."""

from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.web_protocol import RequestHandler

from streamhub.errors import ApiError, Fault
from streamhub.gateway.refusals import answer, internal_error, refusals

# 500 resource ids of some length make a long line; a header is a token at most.
LONGEST_LINE = 256 * 1024


class Listener(Protocol):
    def peer_finished(self) -> None:
        """The peer's FIN is here; the socket can still be asked."""

    def peer_left(self) -> None:
        """The connection is gone."""


class Connection(RequestHandler):
    """`listener` is the stream that is being written, if any; `got_fin`: the peer ended it in order."""

    __slots__ = ("got_fin", "listener")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.listener: Listener | None = None
        self.got_fin = False

    def eof_received(self) -> None:
        self.got_fin = True
        if self.listener is not None:
            self.listener.peer_finished()
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.listener is not None:
            self.listener.peer_left()
        super().connection_lost(exc)

    async def _drain_helper(self) -> None:
        # aiohttp keeps the waiter of a drain that was cancelled: whoever waits next would be cancelled with it, and a
        # stream that was interrupted while its reader was slow could not end in order.
        if self._drain_waiter is not None and self._drain_waiter.cancelled():
            self._drain_waiter = None
        await super()._drain_helper()

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's, which may quote a header
    ) -> web.StreamResponse:
        """What is no HTTP, or failed outside of every handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has been begun and cannot be replaced by an error")
        if status >= 500:
            return internal_error(exc)
        detail = "The request is not HTTP/1.1."
        if isinstance(exc, LineTooLong):
            detail = f"The request's first line or a header is too long: at most {LONGEST_LINE} bytes a line."
        response = answer(ApiError(Fault(400, "INVALID_REQUEST", detail)))
        response.force_close()
        return response


class Server(web.Server):
    """Makes our connections."""

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, **self._kwargs)


class Runner(web.AppRunner):
    """An application on our connections."""

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        loop, kwargs = server._loop, server._kwargs  # noqa: SLF001 - there is no other seam

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            # Around the application, not in it: what aiohttp refuses before its middlewares is a refusal, too.
            return await refusals(request, server.request_handler)

        return Server(handle, request_factory=server.request_factory, loop=loop, **kwargs)
