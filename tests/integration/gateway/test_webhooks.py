"""`/{org}/webhooks`: endpoints as their owners make, change and see them."""

import asyncio
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from streamhub.core import signing
from streamhub.webhooks import store
from tests.integration.conftest import Hub, StartHub

ENDPOINT: Final = {"url": "https://shop.example.com/hooks", "events": ["skus.*"]}
PATH: Final = "/my-org/webhooks"


class Answer:
    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.document: Any = json.loads(body) if body else None

    @property
    def data(self) -> Any:
        assert self.status < 300, self.document
        return self.document["data"]

    @property
    def pointers(self) -> list[tuple[str, str]]:
        return [(each["code"], each["source"]["pointer"]) for each in self.document["errors"]]


async def ask(hub: Hub, method: str, path: str = PATH, body: Any = None, **claims: Any) -> Answer:
    headers = {"Authorization": f"Bearer {hub.token(**{'scope': 'webhooks:manage', **claims})}"}
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, f"http://127.0.0.1:{hub.port}{path}", headers=headers, json=body) as response,
    ):
        return Answer(response.status, response.headers, await response.read())


async def made(hub: Hub, **fields: Any) -> Any:
    return (await ask(hub, "POST", body={**ENDPOINT, **fields})).data


async def test_a_new_endpoint_has_the_defaults_and_shows_its_secret_once(hub: Hub) -> None:
    answer = await ask(hub, "POST", body=ENDPOINT, test=True)
    assert answer.status == 201
    found = dict(answer.data)
    assert len(signing.key_of(found.pop("secret"))) == 32
    assert (await ask(hub, "GET", f"{PATH}/{found['id']}", test=True)).data == found
    assert (await ask(hub, "GET", test=True)).data == [found]
    del found["id"], found["created_at"]
    assert found == {
        **ENDPOINT, "organization": "my-org", "test": True, "filters": {}, "order": "none", "max_in_flight": 10,
        "rate": None, "headers": {}, "auto_disable": True, "description": None, "owner_email": None, "enabled": True,
        "state": "ok", "disabled_reason": None,
    }  # fmt: skip


async def test_every_field_is_kept_as_it_was_given(hub: Hub) -> None:
    fields = {
        "url": "https://x.example/y", "events": ["*"], "order": "resource", "max_in_flight": 3, "rate": 7,
        "filters": {"resource_type_eq": "skus", "resource_id_in": "a,b", "path_prefix": "/x", "who.app_eq": "z"},
        "headers": {"X-Shop": "42"}, "auto_disable": False, "description": "é", "owner_email": "o@example.com",
        "enabled": False,
    }  # fmt: skip
    made_ = await made(hub, **fields)
    assert {name: made_[name] for name in fields} == fields
    assert made_["state"] == "disabled"


async def test_all_faults_of_an_endpoint_are_told_with_where_they_are(hub: Hub) -> None:
    body = {
        "url": "http://shop.example.com/hooks", "events": ["skus.*", ""],
        "filters": {"a/b": "1", "resource_id_in": "x"},
        "order": "type", "max_in_flight": 0, "rate": 1.5, "headers": {"Host": "x", "webhook-id": "y"},
        "owner_email": "a@b\r\nBcc: c@d", "colour": 1,
    }  # fmt: skip
    answer = await ask(hub, "POST", body=body)
    assert answer.status == 422
    assert answer.pointers == [
        ("INVALID_ENDPOINT", pointer)
        for pointer in ("/url", "/events/1", "/filters/resource_id_in", "/filters/a~1b", "/order", "/max_in_flight",
                        "/rate", "/headers/Host", "/headers/webhook-id", "/owner_email", "/colour")
    ]  # fmt: skip
    assert (await ask(hub, "POST", body={})).pointers == [("INVALID_ENDPOINT", "/url"), ("INVALID_ENDPOINT", "/events")]


async def test_types_that_no_event_had_are_accepted_and_told(hub: Hub, organization: int) -> None:
    await hub.gateway.hub.execute(
        "INSERT INTO streamhub_hub.event_types (organization, test, type, seen_at) "
        "VALUES ($1, false, 'prices.update', now()), ($1, true, 'skus.update', now())", organization,
    )  # fmt: skip
    answer = await ask(hub, "POST", body={**ENDPOINT, "events": ["prices.*", "prices", "skus.*", "*"]})
    assert answer.status == 201
    assert answer.document["warnings"] == [
        {
            "detail": "no event of type prices was seen in 30 days; types are like prices.update, and prices.* takes "
            "all of them.",
            "source": {"pointer": "/events/1"},
        },
        {
            "detail": "no event of type skus.* was seen in 30 days; there were prices.update.",
            "source": {"pointer": "/events/2"},
        },
    ]
    path = f"{PATH}/{answer.data['id']}"
    assert len((await ask(hub, "PATCH", path, {"events": ["price.update"]})).document["warnings"]) == 1
    for change in ({"events": ["*"]}, {"rate": 5}):
        assert "warnings" not in (await ask(hub, "PATCH", path, change)).document


async def test_http_to_loopback_is_for_development_alone(hub: Hub, start_hub: StartHub, tmp_path: Path) -> None:
    local = {**ENDPOINT, "url": "http://127.0.0.1:9/x"}
    assert (await ask(hub, "POST", body=local)).status == 422
    development = await start_hub(signing_key_file=tmp_path / "key.pem")
    assert (await ask(development, "POST", body=local)).status == 201
    assert (await ask(development, "POST", body={**ENDPOINT, "url": "http://10.0.0.1/"})).status == 422


async def test_an_address_that_would_not_be_dialled_is_refused_at_once(start_hub: StartHub) -> None:
    hub = await start_hub(webhook_allow_addresses="10.20.0.0/16")
    id_ = (await made(hub, url="https://10.20.3.4/"))["id"]
    for method, path in (("POST", PATH), ("PATCH", f"{PATH}/{id_}")):
        answer = await ask(hub, method, path, {**ENDPOINT, "url": "https://10.21.0.1/"})
        assert answer.pointers == [("INVALID_ENDPOINT", "/url")]
        assert "10.21.0.1 is not a public address" in answer.document["errors"][0]["detail"]


async def test_a_change_leaves_what_it_does_not_name(hub: Hub) -> None:
    before = await made(hub, description="a", rate=5)
    after = (await ask(hub, "PATCH", f"{PATH}/{before['id']}", {"rate": None, "order": "resource"})).data
    del before["secret"]
    assert after == {**before, "rate": None, "order": "resource"}


async def test_a_deleted_endpoint_is_gone(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    assert (await ask(hub, "DELETE", f"{PATH}/{id_}")).status == 204
    assert (await ask(hub, "GET", f"{PATH}/{id_}")).status == 404


async def test_enable_and_disable_switch_it(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    assert (await ask(hub, "POST", f"{PATH}/{id_}/disable")).data["state"] == "disabled"
    assert (await ask(hub, "POST", f"{PATH}/{id_}/enable")).data["state"] == "ok"


async def test_a_rotation_keeps_the_secret_before_for_24_hours(hub: Hub) -> None:
    endpoint = await made(hub)
    new = (await ask(hub, "POST", f"{PATH}/{endpoint['id']}/rotate-secret")).data["secret"]
    assert new != endpoint["secret"]
    row = await hub.gateway.hub.fetchrow(
        "SELECT secret, old_secrets, extract(epoch FROM clock_timestamp())::float8 AS now "
        "FROM streamhub_hub.webhook_endpoints"
    )
    assert row is not None
    (old,) = json.loads(row["old_secrets"])
    assert (row["secret"], old["secret"]) == (new, endpoint["secret"])
    assert 0 <= old["valid_until"] - row["now"] + 60 - 86_400 <= 60


async def test_a_rotation_that_would_end_a_valid_secret_is_refused_until_it_has_ended(hub: Hub) -> None:
    path = f"{PATH}/{(await made(hub))['id']}/rotate-secret"
    assert [(await ask(hub, "POST", path)).status for _ in range(4)] == [200] * 4
    refused = await ask(hub, "POST", path)
    (error,) = refused.document["errors"]
    first = await hub.gateway.hub.fetchval("SELECT old_secrets->0->>'valid_until' FROM streamhub_hub.webhook_endpoints")
    at = datetime.fromtimestamp(float(first), UTC).strftime("%Y-%m-%dT%H:%M:%S")
    assert (refused.status, error["code"], at in error["detail"]) == (409, "TOO_MANY_SECRETS", True)
    await hub.gateway.hub.execute(
        "UPDATE streamhub_hub.webhook_endpoints SET old_secrets = jsonb_set(old_secrets, '{0,valid_until}', '5')"
    )
    assert (await ask(hub, "POST", path)).status == 200


OTHERS: Final = [
    {"test": True},
    {"organization": {"id": "org_2", "slug": "my-org-2", "enterprise": True}},
]


@pytest.mark.parametrize("claims", OTHERS, ids=["environment", "organization"])
async def test_what_is_anothers_is_not_there(hub: Hub, claims: dict[str, Any]) -> None:
    id_ = (await made(hub))["id"]
    delivery = (await ask(hub, "POST", f"{PATH}/{id_}/test")).data["id"]
    await hub.history.register("org_2", "my-org-2")
    slug = claims.get("organization", {"slug": "my-org"})["slug"]
    assert (await ask(hub, "GET", f"/{slug}/webhooks", **claims)).data == []
    for method, path in (("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/enable"), ("POST", "/disable"),
                         ("POST", "/test"), ("POST", "/rotate-secret"), ("GET", "/deliveries"),
                         ("POST", "/recover?since=2026-01-01T00:00:00Z"),
                         ("POST", f"/deliveries/{delivery}/retry")):  # fmt: skip
        answer = await ask(hub, method, f"/{slug}/webhooks/{id_}{path}", {} if method == "PATCH" else None, **claims)
        assert answer.status == 404, path
    assert (await ask(hub, "GET", f"{PATH}/{id_}")).data["enabled"]
    assert (await ask(hub, "POST", f"{PATH}/{id_}/deliveries/{delivery}/retry")).status == 202


async def test_a_token_without_the_scope_is_refused(hub: Hub) -> None:
    for method in ("GET", "POST"):
        answer = await ask(hub, method, body=ENDPOINT if method == "POST" else None, scope="events:read events:write")
        assert (answer.status, answer.document["errors"][0]["code"]) == (403, "MISSING_SCOPE")


async def test_recover_needs_its_time_and_enables(hub: Hub) -> None:
    id_ = (await made(hub, enabled=False))["id"]
    assert (await ask(hub, "POST", f"{PATH}/{id_}/recover")).document["errors"][0]["code"] == "MISSING_DATE_RANGE"
    assert (await ask(hub, "POST", f"{PATH}/{id_}/recover?since=now")).document["errors"][0]["code"] == "INVALID_DATE"
    answer = await ask(hub, "POST", f"{PATH}/{id_}/recover?since=2026-01-01T00:00:00Z")
    assert (answer.status, answer.data["enabled"]) == (202, True)


async def test_a_time_that_is_sent_to_recover_as_json_is_refused_with_where_it_belongs(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    answer = await ask(hub, "POST", f"{PATH}/{id_}/recover", {"since": "2026-01-01T00:00:00Z"})
    (error,) = answer.document["errors"]
    assert (answer.status, error["code"]) == (400, "MISSING_DATE_RANGE")
    assert "recover?since=" in error["detail"]


@pytest.mark.parametrize("since", ["2300-01-01T00:00:00Z", "9999-12-31T23:59:59Z"])
async def test_recover_refuses_a_time_that_is_still_to_come(hub: Hub, since: str) -> None:
    id_ = (await made(hub))["id"]
    answer = await ask(hub, "POST", f"{PATH}/{id_}/recover?since={since}")
    assert (answer.status, answer.document["errors"][0]["code"]) == (400, "DATE_RANGE_INVALID")


async def test_a_disabled_endpoint_is_neither_tested_nor_retried(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    delivery = (await ask(hub, "POST", f"{PATH}/{id_}/test")).data["id"]
    await ask(hub, "POST", f"{PATH}/{id_}/disable")
    for path in ("test", f"deliveries/{delivery}/retry"):
        answer = await ask(hub, "POST", f"{PATH}/{id_}/{path}")
        (error,) = answer.document["errors"]
        assert (answer.status, error["code"], "enable it first" in error["detail"]) == (409, "ENDPOINT_DISABLED", True)


async def test_a_row_that_cannot_be_used_is_shown_with_why_and_can_be_set_right(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    await hub.gateway.hub.execute("UPDATE streamhub_hub.webhook_endpoints SET filters = '{\"path_prefix\": 5}'")
    (found,) = (await ask(hub, "GET")).data
    assert (found["state"], found["enabled"]) == ("disabled", True)
    assert "'path_prefix' is 5" in found["disabled_reason"]
    assert (await ask(hub, "POST", f"{PATH}/{id_}/test")).document["errors"][0]["code"] == "ENDPOINT_DISABLED"
    found = (await ask(hub, "PATCH", f"{PATH}/{id_}", {"filters": {}})).data
    assert (found["state"], found["disabled_reason"]) == ("ok", None)


async def test_what_another_transaction_has_locked_is_unavailable_and_the_rest_is_not(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    async with hub.gateway.hub.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE streamhub_hub.webhook_endpoints SET description = 'x' WHERE id = $1", id_)
        answer = await ask(hub, "PATCH", f"{PATH}/{id_}", {"rate": 5})
        assert (answer.status, answer.headers["Retry-After"]) == (503, "5")
        assert (await ask(hub, "POST", body=ENDPOINT)).status == 201
    assert (await ask(hub, "PATCH", f"{PATH}/{id_}", {"rate": 5})).status == 200


async def test_of_two_made_at_once_one_is_the_last_there_may_be(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    await made(hub)
    monkeypatch.setattr(store, "MOST_ENDPOINTS", 2)
    answers = await asyncio.gather(*(ask(hub, "POST", body=ENDPOINT) for _ in range(4)))
    assert sorted(each.status for each in answers) == [201, 422, 422, 422]


async def test_tests_that_are_pending_are_bounded(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "MOST_TESTS", 2)
    id_ = (await made(hub))["id"]
    answers = [await ask(hub, "POST", f"{PATH}/{id_}/test") for _ in range(3)]
    assert [each.status for each in answers] == [202, 202, 422]
    assert "2 tests of the endpoint are pending" in answers[-1].document["errors"][0]["detail"]


async def test_half_a_character_is_named(hub: Hub) -> None:
    for text, is_half in (("\ud800", True), ("\U0001f600", False)):
        answer = await ask(hub, "POST", body={**ENDPOINT, "description": text, "order": "x"})
        assert ("half a character" in answer.document["errors"][0]["detail"]) == is_half


async def test_a_test_event_waits_as_a_delivery_and_may_be_retried(hub: Hub) -> None:
    id_ = (await made(hub))["id"]
    sent = await ask(hub, "POST", f"{PATH}/{id_}/test")
    assert (sent.status, sent.data["type"]) == (202, "webhook.test")
    (listed,) = (await ask(hub, "GET", f"{PATH}/{id_}/deliveries?state=pending&limit=1")).data
    assert (listed["id"], listed["state"], listed["attempts"]) == (sent.data["id"], "pending", [])
    assert (await ask(hub, "POST", f"{PATH}/{id_}/deliveries/{listed['id']}/retry")).status == 202
    assert (await ask(hub, "GET", f"{PATH}/{id_}/deliveries?state=failed")).data == []
    assert (await ask(hub, "POST", f"{PATH}/{id_}/deliveries/nothing/retry")).status == 404


async def test_a_row_made_in_sql_is_an_endpoint(hub: Hub, organization: int) -> None:
    await hub.gateway.hub.execute(
        "INSERT INTO streamhub_hub.webhook_endpoints (organization, url) VALUES ($1, 'https://a.example')", organization
    )
    (found,) = (await ask(hub, "GET")).data
    assert (found["url"], found["events"], found["state"]) == ("https://a.example", ["*"], "ok")
    secret = await hub.gateway.hub.fetchval("SELECT secret FROM streamhub_hub.webhook_endpoints")
    assert len(signing.key_of(secret)) == 32
