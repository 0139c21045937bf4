"""One HTTP connection: aiohttp's, which also says how it ended, and refuses what is not HTTP in our error format."""

import asyncio
from collections.abc import Callable
from typing import Any, Final, Protocol

from aiohttp import web
from aiohttp.http_exceptions import BadHttpMethod, LineTooLong
from aiohttp.web_protocol import RequestHandler

from streamhub.metrics import Metrics
from streamhub.web.access import OPERATORS
from streamhub.web.bodies import was_not_asked_for
from streamhub.web.connections import Connections
from streamhub.web.pace import Pace
from streamhub.web.problems import ApiError, Fault
from streamhub.web.refusals import Refusal, answer, internal_error, refusals
from streamhub.web.unknown_methods import message_of

# 500 resource ids of some length make a long line; a header is a token at most.
LONGEST_LINE: Final = 256 * 1024
# Seconds without a whole request, from the beginning or the last answer on; aiohttp's own default is an hour.
IDLE_FOR: Final = 50.0
TAKEN_WITHIN: Final = 50.0  # seconds for a client to take an answer that is no stream


class Listener(Protocol):
    def peer_finished(self) -> None:
        """The peer's FIN is here; the socket can still be asked."""

    def peer_left(self) -> None:
        """The connection is gone."""


class Connection(RequestHandler):
    """`listener` is the stream that is being written, if any; `got_fin`: the peer ended it in order; `authenticated`:
    the request that is being answered has a valid token, and `api_key` is its id where that is an API key; `refused`:
    it is one too many."""

    __slots__ = ("_connections", "api_key", "authenticated", "got_fin", "listener", "made_at", "refused")

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, keepalive_timeout=IDLE_FOR, **kwargs)
        self._connections = connections
        self.listener: Listener | None = None
        self.got_fin = False
        self.authenticated = False
        self.api_key: str | None = None
        self.refused = False
        self.made_at = 0.0

    @property
    def idle(self) -> bool:
        return self._current_request is None and not self._messages

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made_at = self._loop.time()
        super().connection_made(transport)
        self._connections.made(self)

    def has_valid_token(self, api_key: str | None) -> None:
        """The request that is being answered has one."""
        self.authenticated = True
        self.api_key = api_key
        self._connections.authenticated(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._messages:
            error, payload = self._messages[-1]
            if isinstance(getattr(error, "exc", None), BadHttpMethod) and (message := message_of(data)) is not None:
                self._messages[-1] = (message, payload)

    def eof_received(self) -> None:
        self.got_fin = True
        if self.listener is not None:
            self.listener.peer_finished()
        super().eof_received()

    def connection_lost(self, exc: BaseException | None) -> None:
        if self.listener is not None:
            self.listener.peer_left()
        self._connections.lost(self)
        super().connection_lost(exc)

    async def _drain_helper(self) -> None:
        # aiohttp keeps the waiter of a drain that was cancelled: the next one to wait would be cancelled with it, and a
        # stream that was interrupted while its reader was slow could not end in order.
        if self._drain_waiter is not None and self._drain_waiter.cancelled():
            self._drain_waiter = None
        if self.listener is not None:
            return await super()._drain_helper()  # a stream has rules of its own
        try:
            async with asyncio.timeout(TAKEN_WITHIN):
                await super()._drain_helper()
        except TimeoutError:
            if self.transport is not None:
                self.transport.abort()  # a close would wait for what is unsent
            raise ConnectionResetError("the client does not take its answer") from None

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002 - aiohttp's, which may quote a header
    ) -> web.StreamResponse:
        """A request that is not HTTP, or failed outside of every handler."""
        if request.writer.output_size > 0:
            raise ConnectionError("a response has been begun and cannot be replaced by an error")
        if status >= 500:
            return internal_error(exc)
        detail = "The request is not HTTP/1.1."
        if isinstance(exc, LineTooLong):
            detail = f"The request's first line or a header is too long: at most {LONGEST_LINE} bytes a line."
        response = answer(ApiError(Fault("INVALID_REQUEST", detail)))
        response.force_close()
        return response


class ConnectionFactory(web.Server):
    """aiohttp's server, which makes our connections."""

    def __init__(self, *args: Any, connections: Connections, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._all = connections

    def __call__(self) -> RequestHandler:
        return Connection(self, loop=self._loop, connections=self._all, **self._kwargs)


class Runner(web.AppRunner):
    """An application on our connections. Answers to requests without a valid token go out at a pace of this port.
    `metrics` count the requests."""

    def __init__(
        self,
        app: web.Application,
        connections: Connections,
        database_answers: Callable[[], bool],
        metrics: Metrics,
        **kwargs: Any,
    ) -> None:
        super().__init__(app, **kwargs)
        self._metrics = metrics
        self._connections = connections
        self._database_answers = database_answers
        self._pace = Pace()

    async def _make_server(self) -> web.Server:
        server = await super()._make_server()
        loop, kwargs = server._loop, server._kwargs  # noqa: SLF001 - there is no other seam

        async def handle(request: web.BaseRequest) -> web.StreamResponse:
            # Around the application, not in it: what aiohttp refuses before its middlewares is a refusal, too.
            connection = request.protocol
            assert isinstance(connection, Connection)
            connection.authenticated = False
            began = loop.time()
            if connection.refused:
                response: web.StreamResponse = answer(self._connections.refusal())
                response.force_close()
            else:
                response = await refusals(request, server.request_handler, self._database_answers)
            if not request.path.startswith(OPERATORS):
                seconds = None if response.prepared else loop.time() - began
                code = response.code if isinstance(response, Refusal) else None
                self._metrics.answered(response.status, code, seconds)
                if connection.authenticated:
                    self._metrics.authenticated(by_key=connection.api_key is not None)
            if not connection.authenticated:
                await self._pace.turn(request.remote or "")
            if not response.prepared and (self._connections.full or was_not_asked_for(request)):
                response.force_close()  # it holds a file that a stream could have; or what comes next may be a body
            return response

        return ConnectionFactory(
            handle, request_factory=server.request_factory, loop=loop, connections=self._connections, **kwargs
        )
