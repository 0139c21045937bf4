"""`/-/openapi.json`, and `/-/docs`, which shows the same for people: HTML and one style sheet, no script."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, Final

import orjson
from aiohttp import web

from streamhub.gateway.pages import docs_page
from streamhub.gateway.pages.files import ETAG, SAME, File, answers, served
from streamhub.web import openapi
from streamhub.web.route import Answer, Route, json_of, object_of

# Nothing but our own style sheet: no script, no frame, no form, and no request to any other host.
SECURITY: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
}


class Reference:
    """Of the routes that an application has. It is made when it is asked for first."""

    def __init__(self, routes: Sequence[Route]) -> None:
        self._routes = routes

    @cached_property
    def document(self) -> dict[str, Any]:
        return openapi.document(self._routes)

    @cached_property
    def openapi(self) -> File:
        return File(orjson.dumps(self.document), "application/json")

    @cached_property
    def docs(self) -> File:
        return File(docs_page.page(self.document).encode(), "text/html; charset=utf-8", SECURITY)


REFERENCE: Final = web.AppKey("reference", Reference)


async def get_openapi(request: web.Request) -> web.Response:
    return request.app[REFERENCE].openapi.answer(request)


async def get_docs(request: web.Request) -> web.Response:
    return request.app[REFERENCE].docs.answer(request)


ROUTES: Final = (
    Route(
        "GET", "/-/openapi.json", get_openapi, is_open=True,
        name="getOpenapi", group="Pages", summary="This document",
        answers=[
            Answer(
                200, "OpenAPI 3.1.",
                [json_of(
                    object_of({"openapi": {"type": "string"}, "info": {"type": "object"}, "paths": {"type": "object"}}),
                    {"openapi": "3.1.0", "info": {"title": "Streamhub", "version": "1.0.0"}, "paths": {}},
                )],
                ETAG,
            ),
            SAME,
        ],
    ),
    Route(
        "GET", "/-/docs", get_docs, is_open=True,
        name="getDocs", group="Pages", summary="The same, for people",
        answers=answers("A page without a script.", "text/html", "<!doctype html>\n"),
    ),
    Route(
        "GET", "/-/docs.css", served("docs.css", "text/css"), is_open=True,
        name="getDocsStyle", group="Pages", summary="Its style sheet",
        answers=answers("Light and dark.", "text/css", "body { margin: 0 }\n"),
    ),
)  # fmt: skip
