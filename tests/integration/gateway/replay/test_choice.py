"""Replays of the events of some types, and of those for which field filters hold."""

import hashlib
import json

import pytest

from tests.integration.conftest import Hub
from tests.integration.gateway.replay.test_replay import lately, replayed


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ("types=orders.update", [2, 3]),
        ("events=orders.*", [2, 3]),
        ("types=*.create", []),
        ("types=skus.*&events=orders.update", [0, 1, 2, 3]),
        ("resource.n_gteq=1&resource.n_lt=3", [1, 2]),
        ("types=skus.*&resource.n_in=1,2,3", [1]),
        ("resource.n_not_eq=1", [0, 2, 3]),
        ("resource_type_eq=orders&resource.n_eq=3", [3]),
        ("resource.nothing_null=true&who.name_present=false", [0, 1, 2, 3]),
    ],
)
async def test_only_what_was_asked_for_comes_in_order(
    hub: Hub, organization: int, asked: str, found: list[int]
) -> None:
    events = [
        *(await hub.history.append(organization, 2)).events,
        *(await hub.history.append(organization, 2, first=2, resource_type="orders")).events,
    ]
    _, came, _ = await replayed(hub, await lately(hub, f"&{asked}"))
    assert [frame.raw for frame in came] == [events[n].frame for n in found]


async def test_the_end_counts_and_sums_what_was_sent(hub: Hub, organization: int) -> None:
    append = await hub.history.append(organization, 7)
    _, came, complete = await replayed(hub, await lately(hub, "&resource.n_gt=3"))
    assert complete["events"] == 3
    assert complete["sha256"] == hashlib.sha256(b"".join(frame.raw for frame in came)).hexdigest()
    assert (complete["first_id"], complete["last_id"]) == (append.events[4].id, append.last_id)


async def test_the_start_tells_types_and_filters_as_asked(hub: Hub, organization: int) -> None:
    started, _, _ = await replayed(hub, await lately(hub, "&types=skus.*,orders.update&resource.n_eq=1"))
    assert started["types"] == ["orders.update", "skus.*"]
    assert started["filters"] == {"resource.n_eq": "1"}


async def test_pages_in_which_nothing_was_chosen_are_passed_over(hub: Hub, organization: int) -> None:
    for n in range(4):
        await hub.history.append(organization, 1_500, first=1_500 * n, size=1_000)
    _, came, complete = await replayed(hub, await lately(hub, "&resource.n_in=0,5999"))
    assert [json.loads(frame.raw.split(b"data: ")[1])["n"] for frame in came] == [0, 5_999]
    assert complete["events"] == 2


async def test_it_resumes_after_the_last_chosen_event_and_ends_an_event_source_with_204(
    hub: Hub, organization: int
) -> None:
    append = await hub.history.append(organization, 6)
    path = await lately(hub, "&resource.n_in=1,3")
    _, came, _ = await replayed(hub, path, headers={"Last-Event-ID": append.events[1].id})
    assert [frame.id for frame in came] == [append.events[3].id]
    client = await hub.open(path, headers={"Last-Event-ID": append.events[3].id})
    assert client.status == 204


async def test_a_filter_never_finds_another_organizations_events(hub: Hub, organization: int) -> None:
    other = await hub.history.register("org_2", "other")
    await hub.history.append(other, 3)
    _, came, _ = await replayed(hub, await lately(hub, "&resource.n_present=true"))
    assert came == []


@pytest.mark.parametrize(
    ("asked", "code", "named"),
    [
        ("resource.n_equals=1", "INVALID_FILTER", "resource.n_equals"),
        ("resource.n_in=", "INVALID_FILTER", "resource.n_in"),
        ("delta.n_changed=perhaps", "INVALID_FILTER", "delta.n_changed"),
        ("types=", "INVALID_FILTER", "types"),
        ("row.n_eq=1", "UNKNOWN_PARAMETER", "row.n_eq"),
        ("&".join(f"resource.c{n}_eq=1" for n in range(21)), "TOO_MANY_FILTERS", "resource.c20_eq"),
    ],
)
async def test_a_wrong_filter_is_named_and_no_job_is_queued(
    hub: Hub, organization: int, asked: str, code: str, named: str
) -> None:
    answer = await hub.get(await lately(hub, f"&{asked}"))
    assert answer.status == 400
    assert [(error["code"], error["source"]["parameter"]) for error in answer.errors] == [(code, named)]
    assert await hub.history.pool.fetchval("SELECT count(*) FROM streamhub_hub.replays") == 0
