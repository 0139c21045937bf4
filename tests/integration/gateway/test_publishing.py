"""`POST /{org}/events`: what is stored, what is refused, and what comes of it for readers."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import pytest

from streamhub.web.bodies import Bodies
from tests.integration.conftest import Answer, Hub
from tests.support.database import Connection
from tests.support.stage import Stage

EVENT: Final = {"type": "query.received", "data": {"n": 1}, "publish_id": "p1"}
MIB: Final = 1024 * 1024


async def post(hub: Hub, body: Any, path: str = "/my-org/events", **more: Any) -> Answer:
    """`headers` replace those that are sent by themselves, None leaves one out; the rest are the token's claims."""
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", "Content-Length": str(len(sent)), **more.pop("headers", {})}
    token = hub.token(**{"scope": "events:write", **more})
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    lines = [f"POST {path} HTTP/1.1", "Host: a", "Connection: close", f"Authorization: Bearer {token}"]
    lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
    writer.write("\r\n".join([*lines, "\r\n"]).encode() + sent)
    try:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode("latin-1").split("\r\n")
        found = {name.lower(): value for name, _, value in (line.partition(": ") for line in head[1:] if line)}
        content = await asyncio.wait_for(reader.readexactly(int(found["content-length"])), 30)
    finally:
        writer.close()
    return Answer(int(head[0].split(" ")[1]), found, content)


async def stored(hub: Hub) -> list[dict[str, Any]]:
    rows = await hub.gateway.hub.fetch("SELECT old_row, new_row FROM streamhub.outbox ORDER BY seq")
    return [{**json.loads(row["old_row"]), "data": row["new_row"]} for row in rows]


def publish_ids(answer: Answer) -> list[str]:
    assert answer.status == 202, answer.body
    return [each["publish_id"] for each in json.loads(answer.body)["data"]]


# -- what is stored


@pytest.mark.usefixtures("organization")
async def test_one_event_is_stored_in_the_tokens_environment(hub: Hub) -> None:
    answer = await post(hub, b'{"type":"query.received","data":{"n": 1.50, "n":2},"publish_id":"p1"}', test=True)
    assert (answer.status, json.loads(answer.body)) == (202, {"data": [{"publish_id": "p1"}]})
    assert await stored(hub) == [
        {"organization": "org_1", "type": "query.received", "resource_type": None, "resource_id": None,
         "publish_id": "p1", "test": True, "data": '{"n": 1.50, "n":2}'}
    ]  # fmt: skip


@pytest.mark.usefixtures("organization")
async def test_an_array_is_stored_in_its_order_and_each_publish_id_once(hub: Hub) -> None:
    given = [{"type": f"a.t{n}", "data": n, "publish_id": f"p{99 - n}"} for n in range(99)]
    answer = await post(hub, [*given, {"type": "b", "data": None}, given[7] | {"type": "c"}])
    assert publish_ids(answer)[:99] == [each["publish_id"] for each in given]
    assert publish_ids(answer)[-1] == given[7]["publish_id"]
    assert [each["type"] for each in await stored(hub)] == [*(each["type"] for each in given), "b"]


@pytest.mark.usefixtures("organization")
async def test_what_is_sent_again_is_answered_again_and_stored_once(hub: Hub) -> None:
    batch = [{"type": "a.b", "data": n, "publish_id": f"p{n}"} for n in range(20)]
    answers = await asyncio.gather(*(post(hub, each) for each in (batch, batch[::-1], batch, batch[::-1])))
    assert publish_ids(answers[0]) == publish_ids(answers[1])[::-1] == [f"p{n}" for n in range(20)]
    made = publish_ids(await post(hub, {"type": "a.c", "data": 1}))[0]
    assert publish_ids(await post(hub, {"type": "a.c", "data": 1, "publish_id": made})) == [made]
    assert len(await stored(hub)) == 21


async def test_an_organization_that_was_never_seen_is_registered_under_the_tokens_slug(hub: Hub) -> None:
    assert (await post(hub, EVENT)).status == 202
    registered = await hub.gateway.hub.fetch("SELECT id, slug, enterprise FROM streamhub_hub.organizations")
    assert [tuple(row) for row in registered] == [("org_1", "my-org", True)]


async def test_an_organization_that_was_never_seen_gets_another_slug_where_the_tokens_is_taken(hub: Hub) -> None:
    await hub.history.register("other", "my-org")
    assert (await post(hub, EVENT)).status == 202
    assert await hub.gateway.hub.fetchval("SELECT slug FROM streamhub_hub.organizations WHERE id = 'org_1'") == "org-1"


@pytest.mark.usefixtures("organization")
async def test_events_that_are_stored_are_counted(hub: Hub) -> None:
    publish_ids(await post(hub, [EVENT, {**EVENT, "publish_id": "p2"}]))
    assert b"streamhub_posted_events_total 2.0" in await hub.gateway.exposition.get()


# -- what is refused


@pytest.mark.usefixtures("organization")
async def test_of_a_request_with_one_bad_event_nothing_is_stored(hub: Hub) -> None:
    answer = await post(hub, [EVENT, {"type": "a.gap", "data": 1}, {"type": "a", "other": 1}])
    assert (answer.status, set(answer.codes)) == (422, {"INVALID_EVENT"})
    assert [each["source"]["pointer"] for each in answer.errors] == ["/1/type", "/2/other", "/2/data"]
    assert await stored(hub) == []


WRONG: Final = {
    "no JSON": (b"{", {}, 400, "INVALID_JSON"),
    "no UTF-8": (b'{"type":"\xff","data":1}', {}, 400, "INVALID_JSON"),
    "empty": (b"", {}, 400, "INVALID_JSON"),
    "media type": (b"{}", {"Content-Type": "text/plain"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "charset": (b"{}", {"Content-Type": "application/json; charset=utf-16"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "no media type": (b"{}", {"Content-Type": None}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "too many": (json.dumps([EVENT] * 1_001).encode(), {}, 413, "TOO_MANY_EVENTS"),
    "too large an event": (json.dumps({"type": "a", "data": "x" * MIB}).encode(), {}, 413, "BODY_TOO_LARGE"),
    "too large a request": (b" " * (16 * MIB + 1), {}, 413, "BODY_TOO_LARGE"),
    "too large a request in chunks": (
        b"".join(b"100000\r\n" + b" " * MIB + b"\r\n" for _ in range(17)) + b"0\r\n\r\n",
        {"Content-Length": None, "Transfer-Encoding": "chunked"}, 413, "BODY_TOO_LARGE",
    ),
    "packed": (gzip.compress(json.dumps(EVENT).encode()), {"Content-Encoding": "gzip"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "packed by nobody knows what": (b"{}", {"Content-Encoding": "x"}, 415, "UNSUPPORTED_MEDIA_TYPE"),
    "a wrong chunk": (b"x\r\n", {"Content-Length": None, "Transfer-Encoding": "chunked"}, 400, "INVALID_REQUEST"),
    "no event": (b"[]", {}, 422, "INVALID_EVENT"),
    "no object": (b"1", {}, 422, "INVALID_EVENT"),
}  # fmt: skip


@pytest.mark.usefixtures("organization")
async def test_a_bad_body_is_refused_and_none_of_it_kept(hub: Hub) -> None:
    for name, (body, headers, status, code) in WRONG.items():
        answer = await post(hub, body, headers=headers)
        assert (answer.status, answer.codes) == (status, [code]), name
    assert await stored(hub) == []
    assert hub.kinds.publishing.bodies.held == 0


@pytest.mark.usefixtures("organization")
async def test_no_more_is_held_of_bodies_than_the_bound_and_none_for_long(hub: Hub) -> None:
    hub.kinds.publishing.bodies = bodies = Bodies(most=400, read_within=0.2)
    answer = await post(hub, EVENT | {"data": "x" * 100})
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    answer = await post(hub, EVENT, headers={"Content-Length": "99"})
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    assert bodies.held == 0
    assert publish_ids(await post(hub, EVENT)) == ["p1"]


@pytest.mark.usefixtures("organization")
async def test_a_client_that_leaves_within_its_body_is_no_error_of_ours(
    hub: Hub, caplog: pytest.LogCaptureFixture
) -> None:
    bodies = hub.kinds.publishing.bodies
    _, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    token = hub.token(scope="events:write")
    lines = ["POST /my-org/events HTTP/1.1", "Host: a", f"Authorization: Bearer {token}"]
    lines += ["Content-Type: application/json", "Content-Length: 1000", "", '{"type":']
    writer.write("\r\n".join(lines).encode())
    await hub.eventually(lambda: asyncio.sleep(0, bodies.held > 0))
    writer.transport.abort()
    await hub.eventually(lambda: asyncio.sleep(0, bodies.held == 0))
    assert "a request failed" not in caplog.text
    assert await stored(hub) == []


@pytest.mark.usefixtures("organization")
async def test_a_body_that_is_small_until_it_is_unpacked_is_never_unpacked(hub: Hub) -> None:
    packed = gzip.compress(b" " * 200 * MIB)
    used = time.process_time()
    for path in ("/my-org/events", "/other/events", "/nothing"):
        assert (await post(hub, packed, path=path, headers={"Content-Encoding": "gzip"})).status >= 400
    assert time.process_time() - used < 0.2


@pytest.mark.usefixtures("organization")
async def test_one_organization_holds_no_more_than_a_share_of_all_bodies(hub: Hub) -> None:
    hub.kinds.publishing.bodies = bodies = Bodies(most=400)
    _, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    lines = ["POST /my-org/events HTTP/1.1", "Host: a", f"Authorization: Bearer {hub.token(scope='events:write')}"]
    lines += ["Content-Type: application/json", "Content-Length: 99", "", " " * 90]
    writer.write("\r\n".join(lines).encode())
    await hub.eventually(lambda: asyncio.sleep(0, bodies.held == 90))
    assert (await post(hub, EVENT)).status == 503
    other = {"id": "org_2", "slug": "other", "enterprise": True}
    assert (await post(hub, EVENT, path="/other/events", organization=other)).status == 202
    writer.transport.abort()


@pytest.mark.usefixtures("organization")
@pytest.mark.parametrize(("scope", "answers"), [("events:write", [100, 202]), ("events:read", [403])])
async def test_a_client_that_waits_with_its_body_is_asked_for_it_once_it_may_publish(
    hub: Hub, scope: str, answers: list[int]
) -> None:
    body = json.dumps(EVENT).encode()
    lines = ["POST /my-org/events HTTP/1.1", "Host: a", f"Authorization: Bearer {hub.token(scope=scope)}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}", "Expect: 100-continue", "", ""]
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write("\r\n".join(lines).encode())
    for status in answers:
        head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)).lower()
        assert head.startswith(b"http/1.1 %d " % status)
        if status == 100:
            writer.write(body)
    assert (b"\r\nconnection: close\r\n" in head) == (status == 403)  # nobody knows whether a body follows
    writer.close()


@pytest.mark.usefixtures("organization")
async def test_a_charset_of_utf_8_is_one_that_is_taken(hub: Hub) -> None:
    assert (await post(hub, EVENT, headers={"Content-Type": "application/json; charset=UTF-8"})).status == 202


@pytest.mark.usefixtures("organization")
async def test_a_request_is_judged_in_the_order_of_the_contract(hub: Hub) -> None:
    """401, 403, 413 and 415, 400, 422; the faults of one status together."""
    worst: dict[str, Any] = {"path": "/my-org/events?n=1", "headers": {"Content-Type": "text/plain"}}
    assert (await post(hub, b"{", **worst, exp=1)).codes == ["EXPIRED_TOKEN"]
    assert (await post(hub, b"{", **worst, scope="events:read")).codes == ["MISSING_SCOPE"]
    assert (await post(hub, b"{", **worst)).codes == ["UNSUPPORTED_MEDIA_TYPE"]
    worst.pop("headers")
    assert (await post(hub, [EVENT] * 1_001, **worst)).codes == ["TOO_MANY_EVENTS"]
    assert (await post(hub, b"{", **worst)).codes == ["UNKNOWN_PARAMETER", "INVALID_JSON"]
    assert (await post(hub, [{}], **worst)).codes == ["UNKNOWN_PARAMETER"]
    assert (await post(hub, [{}])).codes == ["INVALID_EVENT"] * 2


@pytest.mark.usefixtures("organization")
async def test_a_token_without_the_scope_is_told_which(hub: Hub) -> None:
    (error,) = (await post(hub, EVENT, scope="events:read webhooks:manage")).errors
    assert (error["status"], error["code"]) == ("403", "MISSING_SCOPE")
    assert "events:write" in error["detail"]


@pytest.mark.usefixtures("organization")
async def test_a_token_of_any_application_that_has_the_scope_publishes_for_its_organization_alone(hub: Hub) -> None:
    assert (await post(hub, EVENT, application__kind="sales_channel")).status == 202
    assert (await post(hub, EVENT, organization__slug="other")).codes == ["ORGANIZATION_MISMATCH"]


@pytest.mark.parametrize(
    ("registered", "claimed", "status"),
    [(None, True, 202), (None, False, 403), (True, False, 202), (False, True, 403)],
)
async def test_the_registry_tells_who_is_enterprise_and_the_token_where_it_does_not_know(
    hub: Hub, registered: bool | None, claimed: bool, status: int
) -> None:
    if registered is not None:
        await hub.history.register()
        await hub.gateway.hub.execute("UPDATE streamhub_hub.organizations SET enterprise = $1", registered)
    answer = await post(hub, EVENT, organization__enterprise=claimed)
    assert answer.status == status
    assert status == 202 or answer.codes == ["NOT_ENTERPRISE"]
    assert len(await stored(hub)) == (status == 202)


async def test_another_method_is_not_allowed(hub: Hub) -> None:
    answer = await hub.get("/my-org/events")
    assert (answer.codes, answer.headers["allow"]) == (["METHOD_NOT_ALLOWED"], "POST")


# -- while others publish


@pytest.fixture
async def application(database_url: str) -> AsyncIterator[Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    connection.terminate()


@pytest.mark.usefixtures("organization")
async def test_a_publish_id_that_a_transaction_is_publishing_is_waited_for_no_longer_than_is_good_for_others(
    hub: Hub, application: Connection
) -> None:
    async with application.transaction():
        await application.execute("SELECT streamhub.publish('org_1', 'a.b', '1', publish_id => 'p1')")
        began = time.monotonic()
        waiting = [asyncio.create_task(post(hub, EVENT)) for _ in range(2)]
        assert (await hub.get("/my-org/status")).status == 200
        assert time.monotonic() - began < 1.5
        for answer in await asyncio.gather(*waiting):
            assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
            assert "retry-after" in answer.headers
    assert publish_ids(await post(hub, EVENT)) == ["p1"]
    assert [each["type"] for each in await stored(hub)] == ["a.b"]


# -- what readers get


async def test_what_was_published_comes_live_and_in_a_replay_like_any_other_event(
    hub: Hub, database_url: str, connection: Connection
) -> None:
    stage = Stage(database_url, connection)
    await stage.shop()
    began = datetime.now(UTC) - timedelta(seconds=5)
    await hub.history.register()
    live = await hub.live()
    data = '{"big":12345678901234567,"n": 1.50, "n":2,"zero":"\\u0000","line":"\u2028"}'
    async with stage.relaying():
        await post(hub, f'{{"type":"query.received","data":{data},"resource_id":"q7"}}'.encode())
        await stage.drained()
        await stage.sql("INSERT INTO skus VALUES (1, 'org_1', 1, 'a')")
        await stage.drained()
        await post(hub, [{"type": "query.answered", "data": 1}], test=True)
        frames = await live.frames(3)
    assert [(frame.event, frame.data["test"]) for frame in frames] == [
        ("received", False), ("create", False), ("answered", True),
    ]  # fmt: skip
    assert frames[0].raw.endswith(f'"data":{data}}}\n\n'.replace("\u2028", "\\u2028").encode())
    window = f"date_from={quote(began.isoformat())}&date_to={quote((began + timedelta(hours=1)).isoformat())}"
    for query, test, wanted in (
        (window, False, frames[:2]),
        (f"{window}&types=query.*", False, frames[:1]),
        (f"{window}&data.n_eq=2", False, frames[:1]),
        ("resource_type_eq=query&resource_id_in=q7", False, frames[:1]),
        (window, True, frames[2:]),
    ):
        replay = await hub.open(f"/my-org/replay?{query}", token=hub.token(test=test))
        assert [frame.raw for frame in await replay.rest()][1:-1] == [frame.raw for frame in wanted], query
