"""`/-/dashboard`: one page and its modules. They hold no data: the page asks for a token, and reads the public API with
it, so whatever the dashboard can do, curl can."""

from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Final

from aiohttp import web

from streamhub.gateway import pages
from streamhub.gateway.pages.files import File, answers
from streamhub.web.problems import ApiError, Fault
from streamhub.web.route import Route

# Scripts and styles of ours alone, requests to this hub alone, and no text that becomes HTML.
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
}
_SCRIPT: Final = "text/javascript"
_STYLE: Final = "text/css"
_MODULES: Final = (
    "api", "app", "charts", "checks", "deliveries", "endpoint", "event", "events", "exact", "failing", "filters",
    "health", "history", "list", "metrics", "parts", "replay", "replaying", "settings", "sha256", "tail", "webhooks",
)  # fmt: skip

FILES: Final[Mapping[str, tuple[str, str]]] = {
    **{f"{name}.js": (f"{name}.js", _SCRIPT) for name in _MODULES},
    "style.css": ("style.css", _STYLE),
    "icon.svg": ("icon.svg", "image/svg+xml"),
    "htm-preact.js": ("vendor/htm-preact.js", _SCRIPT),
    "uPlot.iife.min.js": ("vendor/uPlot.iife.min.js", _SCRIPT),
    "uPlot.min.css": ("vendor/uPlot.min.css", _STYLE),
}
"""Which file of the folder `dashboard` a path serves, and its media type. No other file is served."""


def _read(path: str, media_type: str, headers: Mapping[str, str] = {}) -> File:
    body = resources.files(pages).joinpath("dashboard", *path.split("/")).read_bytes()
    return File(body, f"{media_type}; charset=utf-8", headers)


_PAGE: Final = _read("index.html", "text/html", SECURITY)
_SERVED: Final = {name: _read(*file) for name, file in FILES.items()}


async def get_dashboard(request: web.Request) -> web.Response:
    return _PAGE.answer(request)


@web.middleware
async def lead_browsers(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """Who opens the hub's address in a browser looks for the dashboard; for anything else there is nothing. Relative,
    for a proxy that has the hub below a path."""
    if request.path == "/" and request.method == "GET" and "text/html" in request.headers.get("Accept", ""):
        return web.Response(status=302, headers={"Location": "-/dashboard"})
    return await handler(request)


async def get_file(request: web.Request) -> web.Response:
    name = request.match_info["file"]
    if name not in _SERVED:
        raise ApiError(Fault("NOT_FOUND", f"The dashboard has no file {name[:64]!r}."))
    return _SERVED[name].answer(request)


ROUTES: Final = (
    Route(
        "GET", "/-/dashboard", get_dashboard, is_open=True,
        name="getDashboard", group="Pages", summary="The dashboard",
        description="Events, replays, webhooks and health in a browser. It asks for a token, and keeps it in memory.",
        answers=answers("A page that loads `/-/dashboard/{file}`.", "text/html", "<!doctype html>\n"),
    ),
    Route(
        "GET", "/-/dashboard/{file:[^/]+}", get_file, is_open=True,
        name="getDashboardFile", group="Pages", summary="A file of the dashboard",
        answers=answers("A module, a style sheet or the icon.", _SCRIPT, 'import "./api.js";\n'),
    ),
)  # fmt: skip
