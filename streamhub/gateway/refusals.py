"""Every refusal in one format: application/vnd.api+json, whatever went wrong and wherever."""

import logging
from collections.abc import Awaitable, Callable

from aiohttp import HttpVersion10, web

from streamhub.database import DATABASE_AWAY
from streamhub.errors import MEDIA_TYPE, ApiError, Fault, unavailable

log = logging.getLogger(__name__)


def answer(error: ApiError) -> web.Response:
    return web.Response(status=error.status, body=error.body(), headers={**error.headers, "Content-Type": MEDIA_TYPE})


def internal_error(exc: BaseException | None) -> web.Response:
    """500 without a word on the cause, which is logged."""
    log.error("a request failed", exc_info=exc)
    return answer(ApiError(Fault(500, "INTERNAL", "The request failed, and not for anything in it: try again.")))


def database_unavailable() -> ApiError:
    return unavailable("The hub's database cannot be reached just now; try again in a moment.")


async def refusals(
    request: web.BaseRequest, handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    """What `handler` answers, or the refusal that its exception stands for."""
    if request._version < HttpVersion10:  # noqa: SLF001 - `version` keeps what it told first
        # aiohttp takes a line without a version for HTTP/0.9, and would answer in a version that has no status line.
        request._version = HttpVersion10  # noqa: SLF001
        refused = answer(ApiError(Fault(400, "INVALID_REQUEST", "The request is not HTTP/1.1.")))
        refused.force_close()
        return refused
    try:
        return await handler(request)
    except ApiError as error:
        return answer(error)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods - {"HEAD"}))
        detail = f"{request.method[:32]} is not allowed here; allowed: {allowed}."
        return answer(ApiError(Fault(405, "METHOD_NOT_ALLOWED", detail), {"Allow": allowed}))
    except web.HTTPNotFound:
        return answer(ApiError(Fault(404, "NOT_FOUND", f"There is nothing at {request.path[:200]!r}.")))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        fault = Fault(400 if error.status < 500 else 500, "INVALID_REQUEST" if error.status < 500 else "INTERNAL", "")
        return answer(ApiError(fault._replace(detail=f"The request cannot be taken: {error.reason}.")))
    except DATABASE_AWAY as error:
        if request.transport is None:
            raise  # the client's connection, not the database's
        log.warning("the database cannot be reached: %r", error)
        return answer(database_unavailable())
    except Exception as error:  # noqa: BLE001 - the last line before the client
        return internal_error(error)
