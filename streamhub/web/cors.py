"""Browsers of other origins (the Fetch standard's CORS protocol, https://fetch.spec.whatwg.org/#http-cors-protocol).

A page of an allowed origin may send Authorization and Last-Event-ID and read every answer, refusals and streams too.
Tokens come in a header, never in a cookie, so credentials are not allowed for any origin.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import Final

from aiohttp import web
from aiohttp.typedefs import Middleware

ANY: Final = "*"
ALLOWED_HEADERS: Final = "Authorization, Content-Type, Last-Event-ID"
EXPOSED_HEADERS: Final = "Retry-After, WWW-Authenticate"
METHODS: Final = ("GET", "POST", "PUT", "PATCH", "DELETE")
PREFLIGHT_KEPT: Final = "3600"  # seconds

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def add_cors(app: web.Application, origins: Collection[str]) -> None:
    """Let these origins in; `*` is any. A preflight is answered before any token is asked for, whatever its path."""
    if not origins:
        return

    def allowed(request: web.Request) -> str | None:
        origin = request.headers.get("Origin")
        if origin is None or not (ANY in origins or origin in origins):
            return None
        return ANY if ANY in origins else origin

    async def mark(request: web.Request, response: web.StreamResponse) -> None:
        if ANY not in origins:
            response.headers.add("Vary", "Origin")
        origin = allowed(request)
        if origin is not None:
            response.headers["Access-Control-Allow-Origin"] = origin
            response.headers["Access-Control-Expose-Headers"] = EXPOSED_HEADERS

    app.on_response_prepare.append(mark)
    app.middlewares.append(_preflight(allowed))


def _preflight(allowed: Callable[[web.Request], str | None]) -> Middleware:
    @web.middleware
    async def preflight(request: web.Request, handler: Handler) -> web.StreamResponse:
        asked = request.headers.get("Access-Control-Request-Method")
        if request.method != "OPTIONS" or asked is None or allowed(request) is None:
            return await handler(request)
        try:
            return await handler(request)
        except web.HTTPMethodNotAllowed as error:
            # The router has found the path and knows its methods; OPTIONS is none of them.
            methods = error.allowed_methods
        except web.HTTPNotFound:
            methods = {asked if asked in METHODS else "GET"}  # the request itself gets its 404, which the page may read
        headers = {
            "Access-Control-Allow-Methods": ", ".join(sorted(methods)),
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": PREFLIGHT_KEPT,
        }
        return web.Response(status=204, headers=headers)

    return preflight
