"""A receiver of webhooks: it logs what it gets, refuses some, and checks each signature with none of the hub's code."""

import base64
import binascii
import hmac
import random
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import aiohttp
import orjson
from aiohttp import web

from crash.audit import Event, Posted
from crash.consumers import digest
from crash.workload import FORGETFUL, RESUMING

LARGEST: Final = 2**25  # bytes of a body


class Endpoint(NamedTuple):
    """`resource_types`: empty for all. `refused`: the share of requests that get a 500."""

    organization: str
    test: bool = False
    resource_types: tuple[str, ...] = ()
    in_order: bool = False
    refused: float = 0.0

    @property
    def name(self) -> str:
        return f"the {'test' if self.test else 'live'} endpoint of {self.organization}"

    @property
    def path(self) -> str:
        return f"/{self.organization}/{self.test}".lower()

    def document(self, port: int) -> dict[str, object]:
        return {
            "url": f"http://127.0.0.1:{port}{self.path}",
            "events": [f"{each}.*" for each in self.resource_types] or ["*"],
            "order": "resource" if self.in_order else "none",
            "auto_disable": False,
        }

    def expected(self, events: Sequence[Event]) -> list[Event]:
        """What it must get of all events."""
        return [
            event
            for event in events
            if (event.row.organization, event.row.test) == (self.organization, self.test)
            and (not self.resource_types or event.row.resource_type in self.resource_types)
        ]


ENDPOINTS: Final = (
    Endpoint(RESUMING[0], in_order=True, refused=0.03),
    Endpoint(RESUMING[1], refused=0.03),
    Endpoint(RESUMING[2], test=True),
    Endpoint(FORGETFUL, resource_types=("items", "shop_orders")),
)


class Receiver:
    """`log`: of each endpoint, in the order of the requests. `report` gets a sentence about each that is not signed."""

    def __init__(self, chance: random.Random, report: Callable[[str], None]) -> None:
        self.log: dict[Endpoint, list[Posted]] = defaultdict(list)
        self._chance = chance
        self._report = report
        self._by_path = {endpoint.path: endpoint for endpoint in ENDPOINTS}
        self._secrets: dict[Endpoint, str] = {}
        self._runner: web.AppRunner | None = None
        self._port = 0

    async def start(self) -> None:
        app = web.Application(client_max_size=LARGEST)
        app.router.add_post("/{path:.*}", self._take)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]

    async def register(self, http: aiohttp.ClientSession, gateway: int, token: Callable[[Endpoint], str]) -> None:
        """Make the endpoints, over HTTP at that port of a gateway."""
        for endpoint in ENDPOINTS:
            url = f"http://127.0.0.1:{gateway}/{endpoint.organization}/webhooks"
            headers = {"Authorization": f"Bearer {token(endpoint)}"}
            async with http.post(url, json=endpoint.document(self._port), headers=headers) as answer:
                made = await answer.json(content_type=None)
                if answer.status != 201:
                    raise SystemExit(f"{endpoint.name} was refused: {made}")
                self._secrets[endpoint] = made["data"]["secret"]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    def lacks(self, events: Sequence[Event]) -> int:
        """How many deliveries are still to come."""
        left = 0
        for endpoint in ENDPOINTS:
            taken = {each.id for each in self.log[endpoint] if each.taken}
            left += sum(event.id not in taken for event in endpoint.expected(events))
        return left

    async def _take(self, request: web.Request) -> web.Response:
        endpoint = self._by_path[request.path]
        body = await request.read()
        id_ = request.headers.get("webhook-id", "")
        if not _is_signed(request, body, self._secrets[endpoint]):
            self._report(f"{endpoint.name} got {id_} with a wrong signature")
        taken = self._chance.random() >= endpoint.refused
        self.log[endpoint].append(Posted(id_, _frame(body), taken))
        return web.Response(status=204 if taken else 500)


def _frame(body: bytes) -> bytes:
    """The digest of the frame that stands in history: of a change, the body has its data as it is."""
    data = body[body.index(b',"data":') + len(b',"data":') : -1]
    event = orjson.loads(data)
    return digest(b"event: %b\nid: %b\ndata: %b\n\n" % (event["event"].encode(), event["id"].encode(), data))


def _is_signed(request: web.Request, body: bytes, secret: str) -> bool:
    """By both of the signatures that a delivery carries."""
    headers = request.headers
    signed = f"{headers.get('webhook-id')}.{headers.get('webhook-timestamp')}.".encode() + body
    key = base64.b64decode(secret.removeprefix("whsec_"))
    standard = "v1," + base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    ours = binascii.hexlify(hmac.digest(secret.encode(), body, "sha256")).decode()
    return (headers.get("webhook-signature"), headers.get("X-ACP-Signature")) == (standard, ours)
