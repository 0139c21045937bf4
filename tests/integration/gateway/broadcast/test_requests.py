"""What a subscriber may ask for, and how a request is refused."""

import json
from typing import Any

import pytest

from streamhub import organizations
from streamhub.core import frames, ids
from streamhub.keys import store
from tests.integration.conftest import Frame, Hub, StartHub

PATH = "/my-org/events/stream"
TYPES = ("skus.create", "skus.update", "orders.create", "orders.line.create")


async def refused(hub: Hub, query: str = "", **more: Any) -> list[dict[str, Any]]:
    token = more.pop("token", hub.token(scope="events:read"))
    answer = await hub.get(f"{PATH}?{query}" if query else PATH, token=token, **more)
    return answer.errors


# -- who may


@pytest.mark.parametrize("scope", ["events:read", "analytics:read", "x analytics:read y"])
async def test_one_of_two_scopes_is_enough_of_whatever_kind_of_application(
    hub: Hub, organization: int, scope: str
) -> None:
    token = hub.token(scope=scope, application__kind="user", organization__enterprise=False)
    assert (await hub.broadcast(token=token)).status == 200


@pytest.mark.parametrize(("scope", "has"), [("", "none"), ("events:write orders", "events:write, orders")])
async def test_a_token_without_them_is_refused_and_told_which_it_needs(hub: Hub, scope: str, has: str) -> None:
    for path in (PATH, "/events/stream", "/my-org/types"):
        answer = await hub.get(path, token=hub.token(scope=scope))
        assert (answer.status, answer.codes) == (403, ["MISSING_SCOPE"])
        detail = answer.errors[0]["detail"]
        assert detail == f"The route needs the scope analytics:read or events:read; the token has {has}."


async def test_an_api_key_opens_a_stream_that_ends_when_it_is_revoked(hub: Hub, organization: int) -> None:
    async with hub.history.pool.acquire() as connection:
        of = await organizations.require(connection, "my-org")
        key = await store.create(connection, of, ["events:read"], test=True, lifetime=None)
        client = await hub.broadcast(path="/events/stream", token=key)
        await hub.history.append(organization, test=False)
        append = await hub.history.append(organization, test=True)
        assert (await client.frame()).id == append.first_id
        await store.revoke(connection, key[6:18])
    (end,) = await client.rest()
    assert (end.event, end.data["code"], end.data["last_id"]) == ("stream_error", "EXPIRED_TOKEN", append.last_id)


async def test_the_token_is_of_the_organization_in_the_path(hub: Hub) -> None:
    (error,) = await refused(hub, token=hub.token(scope="events:read", organization__slug="other"))
    assert error["code"] == "ORGANIZATION_MISMATCH"


async def test_without_a_slug_in_the_path_it_is_the_tokens_organization(hub: Hub, organization: int) -> None:
    client = await hub.broadcast(path="/events/stream")
    append = await hub.history.append(organization)
    assert (await client.frame()).id == append.first_id


async def test_past_the_most_streams_of_an_organization_a_request_is_429_until_one_ends(
    start_hub: StartHub, organization: int
) -> None:
    hub = await start_hub(max_streams=2)
    first, _ = await hub.broadcast(), await hub.broadcast(path="/events/stream")
    answer = await hub.get(PATH, token=hub.token(scope="events:read"))
    assert (answer.status, answer.codes, answer.headers["retry-after"]) == (429, ["TOO_MANY_STREAMS"], "5")
    other = hub.token(scope="events:read", organization__id="org_2", organization__slug="other")
    assert (await hub.broadcast(path="/other/events/stream", token=other)).status == 200
    first.close()

    async def is_free() -> bool:
        client = await hub.open(PATH, token=hub.token(scope="events:read"))
        return client.status == 200

    await hub.eventually(is_free)


async def test_head_begins_no_stream(hub: Hub) -> None:
    client = await hub.open(PATH, method="HEAD", token=hub.token(scope="events:read"))
    assert (client.status, client.headers["allow"]) == (405, "GET")


# -- bad input


async def test_every_fault_is_named_in_the_order_of_the_query(hub: Hub) -> None:
    query = "latest=1h&typs=a&envelope=xml&resource.status_eqq=paid&path_prefix=&last_event_id=x&resource_id_in=1"
    errors = await refused(hub, query)
    assert [(error["code"], error["source"]["parameter"]) for error in errors] == [
        ("INVALID_FILTER", "latest"),
        ("UNKNOWN_PARAMETER", "typs"),
        ("INVALID_ENVELOPE", "envelope"),
        ("INVALID_FILTER", "resource.status_eqq"),
        ("INVALID_FILTER", "path_prefix"),
        ("INVALID_LAST_EVENT_ID", "last_event_id"),
        ("MISSING_RESOURCE_TYPE", "resource_type_eq"),
    ]
    details = [error["detail"] for error in errors]
    assert details[0] == "latest is '1h'; give a duration from 100ms to 60s, such as 500ms."
    assert details[2] == "envelope is 'xml'; give one of change, event, engine, cloudevents."
    assert details[3].endswith("did you mean eq?")


@pytest.mark.parametrize("latest", ["", "99ms", "61s", "-1s", "500", "often"])
async def test_latest_is_a_duration_from_100_ms_to_60_s(hub: Hub, latest: str) -> None:
    (error,) = await refused(hub, f"latest={latest}")
    assert error["code"] == "INVALID_FILTER"
    assert repr(latest) in error["detail"]


async def test_a_position_is_a_uuid7_that_lies_not_in_the_future(hub: Hub) -> None:
    future = ids.event_id(await hub.history.now_ms() + 60_000, 0)
    for given, says in (("42", "give the id of an event, a UUIDv7"), (future, "lies in the future")):
        in_query = await refused(hub, f"last_event_id={given}")
        in_header = await refused(hub, headers={"Last-Event-ID": given})
        for (error,), where in ((in_query, {"parameter": "last_event_id"}), (in_header, {"header": "Last-Event-ID"})):
            assert (error["code"], error["source"]) == ("INVALID_LAST_EVENT_ID", where)
            assert says in error["detail"]
            assert given in error["detail"]


async def test_more_than_twenty_filters_are_too_many(hub: Hub) -> None:
    query = "&".join(f"resource.f{n}_eq=1" for n in range(21))
    (error,) = await refused(hub, query)
    assert error["code"] == "TOO_MANY_FILTERS"


# -- which events


async def events_of(hub: Hub, organization: int, query: str, count: int) -> list[Frame]:
    """What comes for a query of some events of all TYPES, and two that were published."""
    client = await hub.broadcast(query)
    for n, type_ in enumerate(TYPES):
        await hub.history.append(organization, first=n, event_type=type_, resource_type=type_.partition(".")[0])
    for path in ("/docs/a", "/blog/b"):
        own = {"entries": [{"path": "/x"}, {"path": path}], "status": path[1:5]}
        await hub.history.append(organization, event_type="page.viewed", resource_type="page", own=own)
    end = {"path": "/docs/end", "status": "end"}
    await hub.history.append(organization, event_type="the.end", resource_id="end", own=end)
    found = await client.frames(count)
    assert await client.quiet(0.05)
    return found


@pytest.mark.parametrize(
    ("query", "types"),
    [
        ("types=skus.*", ["skus.create", "skus.update"]),
        ("types=*.create", ["skus.create", "orders.create"]),
        ("types=skus.update&events=orders.create,orders.*.create", ["skus.update", *TYPES[2:]]),
        ("types=*&resource_type_eq=orders", list(TYPES[2:])),
        ("resource_type_eq=skus&resource_id_in=sku_1,sku_9", ["skus.update"]),
        ("resource.n_gteq=2", list(TYPES[2:])),
        ("resource.n_in=0,3&types=*.create,*.*.create", ["skus.create", "orders.line.create"]),
        ("data.status_eq=docs", ["page.viewed"]),
        ("path_prefix=/docs/", ["page.viewed", "the.end"]),
        ("path_prefix=/docs/&data.status_not_eq=end", ["page.viewed"]),
        ("path_prefix=/nothing", []),
    ],
)
async def test_the_events_that_match_arrive_and_no_others(
    hub: Hub, organization: int, query: str, types: list[str]
) -> None:
    found = await events_of(hub, organization, query, len(types))
    assert [frame.data["type"] for frame in found] == types


async def test_what_comes_from_history_is_chosen_as_what_comes_from_the_tail(hub: Hub, organization: int) -> None:
    start = ids.event_id(await hub.history.now_ms() - 1_000, 0)
    for query, count in (("types=*.create", 2), ("path_prefix=/docs/", 2), ("resource.n_gteq=2&envelope=engine", 2)):
        from_tail = await events_of(hub, organization, query, count)
        client = await hub.broadcast(query, last_event_id=start)
        assert [frame.raw for frame in await client.frames(count)] == [frame.raw for frame in from_tail]
        start = ids.event_id(await hub.history.now_ms(), ids.MAX_COUNTER)


# -- envelopes


@pytest.mark.parametrize(
    ("path", "query", "event", "inner"),
    [
        (PATH, "", "message", "data"),
        ("/events/stream", "", "skus.update", "payload"),
        (PATH, "envelope=engine", "skus.update", "payload"),
        ("/events/stream", "envelope=event", "message", "data"),
        (PATH, "envelope=cloudevents", "skus.update", "data"),
        (PATH, "envelope=change", "update", None),
    ],
)
async def test_each_envelope_holds_the_change(
    hub: Hub, organization: int, path: str, query: str, event: str, inner: str | None
) -> None:
    client = await hub.broadcast(query, path=path)
    append = await hub.history.append(organization)
    frame = await client.frame()
    change = json.loads(append.events[0].frame.partition(b"data: ")[2])
    assert (frame.event, frame.id) == (event, append.first_id)
    assert (frame.data if inner is None else frame.data[inner]) == change


async def test_an_envelope_holds_the_publishers_own_data(hub: Hub, organization: int) -> None:
    own = {"query": "shoes", "entries": [1, {"data": None}]}
    clients = {each: await hub.broadcast(f"envelope={each}") for each in ("event", "engine", "cloudevents")}
    await hub.history.append(organization, event_type="query.received", resource_type=None, own=own)
    found = {each: (await client.frame()).data for each, client in clients.items()}
    assert found["event"]["data"] == found["engine"]["payload"] == found["cloudevents"]["data"] == own
    assert found["event"]["timestamp"] == found["cloudevents"]["time"]


# -- one event is made once


async def test_subscribers_of_one_interest_share_what_is_made_of_an_event(
    hub: Hub, organization: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    enveloped = frames.enveloped

    def counted(frame: bytes, envelope: str) -> bytes:
        made.append(envelope)
        return enveloped(frame, envelope)

    queries = ["", "types=skus.*", "resource.n_eq=0", "envelope=engine", "envelope=engine&types=*", "latest=100ms"]
    clients = [await hub.broadcast(query) for query in queries for _ in range(3)]
    monkeypatch.setattr(frames, "enveloped", counted)
    await hub.history.append(organization)
    for client in clients:
        await client.frame()
    assert sorted(made) == ["engine", "event"]
