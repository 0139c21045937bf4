"""Every exception becomes an answer in one format, application/vnd.api+json, wherever it was raised."""

import logging
from collections.abc import Awaitable, Callable
from typing import Final

import asyncpg
from aiohttp import HttpVersion10, HttpVersion11, web

from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.web.problems import MEDIA_TYPE, ApiError, Fault, database_unavailable, unavailable

log = logging.getLogger(__name__)

SERVER: Final = "streamhub"  # the header; what it is made with is not told


class Refusal(web.Response):
    """`code`: of the first fault."""

    def __init__(self, error: ApiError) -> None:
        headers = {**error.headers, "Content-Type": MEDIA_TYPE, "Server": SERVER}
        super().__init__(status=error.status, body=error.body(), headers=headers)
        self.code = error.faults[0].code


def answer(error: ApiError) -> web.Response:
    return Refusal(error)


def internal_error(exc: BaseException | None) -> web.Response:
    """500 without a word on the cause, which is logged."""
    log.error("a request failed", exc_info=exc)
    return answer(ApiError(Fault("INTERNAL", "The request failed, and not for anything in it: try again.")))


def _unavailable(error: BaseException, answers: bool) -> ApiError:
    """What is so: the database is short of something, too slow for this request, or not there."""
    if isinstance(error, asyncpg.InsufficientResourcesError):
        return unavailable("The hub's database has no connection or memory left for this; try again in a moment.")
    if answers and isinstance(error, TimeoutError):
        return unavailable("The hub's database is too busy for this request: it did not answer in time; try again.")
    return database_unavailable()


async def refusals(
    request: web.BaseRequest,
    handler: Callable[[web.BaseRequest], Awaitable[web.StreamResponse]],
    database_answers: Callable[[], bool] = lambda: False,
) -> web.StreamResponse:
    """What `handler` answers, or the refusal that its exception means. `database_answers`: others are answered
    meanwhile."""
    if not HttpVersion10 <= request._version <= HttpVersion11:  # noqa: SLF001 - `version` keeps what it told first
        # aiohttp takes a line without a version for HTTP/0.9, and answers HTTP/2.0 as if it were spoken here.
        spoken = "{}.{}".format(*request._version)  # noqa: SLF001
        request._version = HttpVersion10  # noqa: SLF001
        detail = f"The request is not HTTP/1.1, it is HTTP/{spoken}: HTTP/1.1 and HTTP/1.0 are spoken here."
        refused = answer(ApiError(Fault("INVALID_REQUEST", detail)))
        refused.force_close()
        return refused
    try:
        return await handler(request)
    except ApiError as error:
        return answer(error)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.method[:32]} is not allowed here; allowed: {allowed}."
        return answer(ApiError(Fault("METHOD_NOT_ALLOWED", detail), {"Allow": allowed}))
    except web.HTTPNotFound:
        return answer(ApiError(Fault("NOT_FOUND", f"There is nothing at {request.path[:200]!r}.")))
    except web.HTTPException as error:
        if error.status < 400:
            raise
        code = "INVALID_REQUEST" if error.status < 500 else "INTERNAL"
        return answer(ApiError(Fault(code, f"The request cannot be taken: {error.reason}.")))
    except DATABASE_AWAY as error:
        if request.transport is None:
            raise  # the client's connection, not the database's
        log.warning("the database cannot be asked: %r", error)
        return answer(_unavailable(error, database_answers()))
    except Exception as error:  # noqa: BLE001 - the last line before the client
        return internal_error(error)
