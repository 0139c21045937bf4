"""A hub in the process of a test: real frames on a real socket, and faults when they are asked for."""

import time
from bisect import insort
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Self
from uuid import uuid4

from aiohttp import web

from streamhub.client import StreamHub
from streamhub.client.blocking import LoopThread
from streamhub.client.endpoint import Token
from streamhub.core import ids
from streamhub.core.window import timestamp
from streamhub.testing.faults import Break, HowItBreaks, Kind, Refusal
from streamhub.testing.server import Seen, Server, stored

PATIENCE: Final = 5.0  # seconds: how long `wait_for` waits


class FakeHub:
    """One organization. It runs in a thread of its own from `start` to `close`, or in a `with`; its methods may be
    called in any thread.

        with FakeHub() as fake:
            fake.publish("skus.create", resource={"id": "a", "price": "12.50"})
    """

    def __init__(
        self,
        org: str = "my-org",
        *,
        token: str = "a-token-of-the-fake-hub",  # noqa: S107 - it opens nothing
        heartbeat: float = 10.0,
        retry_ms: int = 10,
        stale_after: float = 0,
    ) -> None:
        """`heartbeat` (pings on broadcast) in seconds. A real hub says `retry: 6000`, and keeps a live stream for 5 s
        (`stale_after`) for the consumer that has gone; here tests need not wait."""
        self.org = org
        self.url = ""
        self._server = Server(org, token, heartbeat, retry_ms, stale_after)
        self._server.publish = self._published
        self._thread = LoopThread("streamhub.testing")
        self._runner: web.AppRunner | None = None

    # -- its life

    @property
    def port(self) -> int:
        assert self._runner is not None, "it has not started"
        return int(self._runner.addresses[0][1])

    def start(self) -> None:
        self.url = self._thread.run(self._start())

    def close(self) -> None:
        """Cut every stream and stop."""
        self._thread.close(self._stop)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def client(self, *, token: Token | None = None, first_pause: float = 0.01, longest_pause: float = 0.1) -> StreamHub:
        """A client of it, whose pauses are short."""
        return StreamHub(
            self.url, org=self.org, token=token or self.token, first_pause=first_pause, longest_pause=longest_pause
        )

    async def _start(self) -> str:
        self._runner = web.AppRunner(self._server.app(), handler_cancellation=True, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        return f"http://127.0.0.1:{self.port}"

    async def _stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()

    # -- what happens

    @property
    def token(self) -> str:
        """The one that is right."""
        return self._server.token

    @property
    def seen(self) -> list[Seen]:
        """The requests that came, in order."""
        return list(self._server.seen)

    def publish(
        self,
        type: str,  # noqa: A002 - the field's word
        *,
        resource_id: str | None = "1",
        resource_type: str | None = None,
        resource: Mapping[str, Any] | None = None,
        delta: Mapping[str, Any] | None = None,
        who: Any = None,
        data: Any = None,
        publish_id: str | None = None,
        test: bool = False,
        published_at: datetime | None = None,
    ) -> str:
        """An event in history and on the streams; its id. With `data` or a `publish_id` it is one that an application
        published. `resource_type` is by default what precedes the last segment of the type. `published_at` (default:
        now) may lie before events that are there, for replays."""
        members = {"resource": resource, "delta": delta, "who": who}
        if resource_type is not None:
            members["resource_type"] = resource_type
        if data is not None or publish_id is not None:
            members |= {"publish_id": publish_id or str(uuid4()), "data": data}
        server = self._server
        with server.changed:
            id_ = self._next_id(published_at)
            insort(server.events, stored(self.org, id_, type, len(server.events) + 1, members, resource_id, test=test))
            self._wake()
        return id_

    def end_streams(self, code: str = "DRAINING", *, resumable: bool = True, kind: Kind | None = None) -> None:
        """Every stream (of the kind) ends with a `stream_error`, then the response."""
        with self._server.changed:
            for stream in self._server.open:
                if kind in {None, stream.kind}:
                    stream.error = {"code": code, "detail": "The test said so.", "resumable": resumable}
            self._wake()

    def expire_token(self, new: str) -> None:
        """The token has expired, and `new` is right from now on. Streams end with EXPIRED_TOKEN."""
        with self._server.changed:
            self._server.expired.add(self._server.token)
            self._server.token = new
            self.end_streams("EXPIRED_TOKEN")

    # -- what goes wrong

    def refuse(
        self,
        status: int,
        code: str,
        *,
        retry_after: int | None = None,
        times: int = 1,
        kind: Kind | None = None,
        detail: str = "The test said so.",
    ) -> None:
        """The next `times` requests (of the kind) get this answer."""
        self._server.refusals.extend([(kind, Refusal(status, code, detail, retry_after))] * times)

    def break_after(self, size: int, how: HowItBreaks = "cut", *, kind: Kind | None = None, times: int = 1) -> None:
        """The bodies of the next `times` responses (of the kind) break after `size` bytes. `cut`: the connection
        closes in the middle; `end`: the response ends as if it were whole; `stall`: nothing more comes, no heartbeat
        either."""
        self._server.breaks.extend([(kind, Break(size, how))] * times)

    def gap(self, after_id: str, start: datetime, end: datetime) -> None:
        """The next live or broadcast stream begins with this gap."""
        first, last = (timestamp(ids.ms_of(each)) for each in (start, end))
        replay = f"/{self.org}/replay?date_from={first}&date_to={last}"
        self._server.gaps.append({"after_id": after_id, "from": first, "to": last, "replay": [replay]})

    def fail_replay(self, after: int, code: str = "REPLAY_CANCELLED", *, resumable: bool = False) -> None:
        """The next replay ends with a `stream_error` after so many events."""
        error = {"code": code, "detail": "The test said so.", "resumable": resumable}
        self._server.replay_errors.append((after, error))

    def end_falsely(self, **members: Any) -> None:
        """The next `stream_complete` says this, such as `events=7` or `sha256="0"`."""
        self._server.false_endings.append(members)

    # -- what a test waits for

    def streams(self, kind: Kind | None = None) -> int:
        """How many are connected."""
        with self._server.changed:
            return sum(kind in {None, stream.kind} for stream in self._server.open)

    def wait_for(self, streams: int = 1, kind: Kind | None = None, within: float = PATIENCE) -> None:
        """Until so many streams (of the kind) are connected. Raises TimeoutError. It blocks; in a coroutine, await
        `asyncio.to_thread(fake.wait_for)`."""
        changed = self._server.changed
        with changed:
            if not changed.wait_for(lambda: self.streams(kind) == streams, within):
                raise TimeoutError(f"{self.streams(kind)} streams are connected after {within} s, not {streams}")

    def _next_id(self, published_at: datetime | None) -> str:
        """Higher than every id of its millisecond; without a time, higher than all."""
        events = self._server.events
        if published_at is None:
            newest = events[-1].id if events else ids.MIN_ID
            now = max(int(time.time() * 1000), ids.milliseconds(newest))
            return ids.event_id(now, ids.parse(newest)[1] + 1 if now == ids.milliseconds(newest) else 0)
        ms = ids.ms_of(published_at)
        taken = [ids.parse(event.id)[1] for event in events if ids.milliseconds(event.id) == ms]
        return ids.event_id(ms, max(taken, default=-1) + 1)

    def _published(self, event: Mapping[str, Any]) -> str:
        """By a client."""
        return self.publish(
            event["type"],
            resource_id=event.get("resource_id"),
            resource_type=event.get("resource_type"),
            data=event["data"],
            publish_id=event["publish_id"],
        )

    def _wake(self) -> None:
        for stream in self._server.open:
            self._thread.soon(stream.wake.set)
