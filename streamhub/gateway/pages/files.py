"""Files that browsers load. They hold no organization's data, so they need no token."""

import hashlib
from collections.abc import Awaitable, Callable
from importlib import resources

from aiohttp import web

from streamhub.gateway import pages


def served(name: str, media_type: str) -> Callable[[web.Request], Awaitable[web.Response]]:
    """The handler of the file of that name in this folder. A browser asks each time whether its copy is still right,
    so a page has the client of the hub that it speaks to."""
    body = resources.files(pages).joinpath(name).read_bytes()
    etag = hashlib.sha256(body).hexdigest()[:32]
    headers = {
        "Cache-Control": "no-cache",
        "Content-Type": f"{media_type}; charset=utf-8",
        "X-Content-Type-Options": "nosniff",
    }

    async def serve(request: web.Request) -> web.Response:
        known = request.if_none_match or ()
        if any(each.value in (etag, "*") for each in known):
            answer = web.Response(status=304, headers={"Cache-Control": headers["Cache-Control"]})
        else:
            answer = web.Response(body=body, headers=headers)
        answer.etag = etag
        return answer

    return serve


client = served("client.js", "text/javascript")
declarations = served("client.d.ts", "application/typescript")
