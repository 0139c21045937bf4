"""Files that browsers load. They hold no organization's data, so they need no token."""

import hashlib
from collections.abc import Awaitable, Callable, Mapping
from importlib import resources
from typing import Final

from aiohttp import web

from streamhub.gateway import pages
from streamhub.web.route import Answer, Route, text_of

SAME: Final = Answer(304, "The copy that `If-None-Match` names is still right.")
ETAG: Final = {"ETag": "the file's version, for `If-None-Match`"}


def answers(means: str, media_type: str, example: str) -> list[Answer]:
    """Of a file, for the reference."""
    return [Answer(200, means, [text_of(media_type, example)], ETAG), SAME]


class File:
    """What a file answers. A browser asks each time whether its copy is still right, so a page has the files of the
    hub that it speaks to."""

    def __init__(self, body: bytes, media_type: str, headers: Mapping[str, str] = {}) -> None:
        self._body = body
        self._etag = hashlib.sha256(body).hexdigest()[:32]
        self._headers = {
            "Cache-Control": "no-cache",
            "Content-Type": media_type,
            "X-Content-Type-Options": "nosniff",
            **headers,
        }

    def answer(self, request: web.Request) -> web.Response:
        known = request.if_none_match or ()
        if any(each.value in (self._etag, "*") for each in known):
            answer = web.Response(status=304, headers={"Cache-Control": self._headers["Cache-Control"]})
        else:
            answer = web.Response(body=self._body, headers=self._headers)
        answer.etag = self._etag
        return answer


def served(name: str, media_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of the file of that name in this folder."""
    file = File(resources.files(pages).joinpath(name).read_bytes(), f"{media_type}; charset=utf-8")

    async def serve(request: web.Request) -> web.Response:
        return file.answer(request)

    return serve


client = served("client.js", "text/javascript")
declarations = served("client.d.ts", "application/typescript")

ROUTES: Final = (
    Route(
        "GET", "/-/client.js", client, is_open=True,
        name="getClient", group="Pages", summary="The client for browsers",
        answers=answers("An ES module without dependencies.", "text/javascript", "export class StreamHub { }\n"),
    ),
    Route(
        "GET", "/-/client.d.ts", declarations, is_open=True,
        name="getClientDeclarations", group="Pages", summary="TypeScript declarations of the client",
        answers=answers("The declarations.", "application/typescript", "export class StreamHub { }\n"),
    ),
)  # fmt: skip
