"""`GET /-/checks`: what `streamhub doctor` finds, for the dashboard.

The other pages at `/-/` are open. This one is not: findings name tables, processes and organizations of all tenants. It
needs the scope `operations:read`, which API keys cannot have: an issuer grants it to operators. As it needs a token, it
stays on the public port where OPERATIONS_PORT moves the open pages away, so the dashboard can show it there.

The checks take connections of their own, one a database, and up to seconds. However many ask, they run once at a time,
and what they found is told for KEPT_FOR.
"""

import asyncio
import time
from typing import Any, Final

from aiohttp import web

from streamhub.config import Settings
from streamhub.core.window import timestamp
from streamhub.gateway.admission import found
from streamhub.health import doctor
from streamhub.health.facts import Kept
from streamhub.web.parameters import refuse_parameters
from streamhub.web.problems import unavailable
from streamhub.web.route import TIME, Answer, Route, data_of, object_of
from streamhub.web.scopes import any_scope

KEPT_FOR: Final = 10.0  # seconds
WITHIN: Final = 30.0  # seconds; the slowest check gives a gateway time to end a stream

operations_read: Final = any_scope("operations:read")


class Checks:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self.found = Kept(self._examine, KEPT_FOR)

    async def _examine(self) -> dict[str, Any] | None:
        """None where it takes too long."""
        at = time.time_ns() // 1_000_000
        try:
            async with asyncio.timeout(WITHIN):
                findings = await doctor.examine(self._settings)
        except TimeoutError:
            return None
        return {"checked_at": timestamp(at), "findings": [finding._asdict() for finding in findings]}


CHECKS: Final = web.AppKey("checks", Checks)


async def checks(request: web.Request) -> web.Response:
    async with found(request, operations_read):
        refuse_parameters(request)
    data = await request.app[CHECKS].found.get()
    if data is None:
        raise unavailable(f"The checks took over {WITHIN:.0f} s; streamhub doctor runs them without a limit.")
    return web.json_response({"data": data}, headers={"Cache-Control": "no-store"})


_TEXT: Final = {"type": "string"}
ROUTES: Final = (
    Route(
        "GET", "/-/checks", checks,
        name="getChecks", group="Operation", summary="What `streamhub doctor` finds", rule=operations_read,
        description="The checks run once at a time, and what they found is told for 10 s. No API key opens them.",
        answers=[
            Answer(
                200, "The findings, in the order of the checks. `fix` is empty where nothing is to be done.",
                [data_of(
                    object_of({
                        "checked_at": TIME,
                        "findings": {
                            "type": "array",
                            "items": object_of({
                                "check": _TEXT, "state": {"enum": ["ok", "warn", "fail"]}, "detail": _TEXT,
                                "fix": _TEXT,
                            }),
                        },
                    }),
                    {
                        "checked_at": "2026-11-22T10:00:00.000Z",
                        "findings": [{
                            "check": "migrations", "state": "fail", "detail": "hub: 0002_types not applied",
                            "fix": "streamhub migrate",
                        }],
                    },
                )],
            ),
        ],
    ),
)  # fmt: skip
