"""Refusals: the format, the order in which a request is judged, and every fault named."""

import asyncio
import logging
import socket
from typing import Any

import asyncpg
import pytest

from servers.ports import free_port
from streamhub.errors import UserError
from streamhub.keys import key
from streamhub.postgres.connections import DATABASE_AWAY
from streamhub.web.problems import PROBLEMS
from tests.integration.conftest import Hub
from tests.support.error_schema import CODES


@pytest.mark.parametrize(
    "path",
    ["/", "/-", "/-/nothing", "/My-Org", "/my_org", "/-my-org", "/my-org-", "/a/b", "/" + "a" * 64, "/my-org/",
     "/my-org/replay/", "/my-org/nothing", "/%00", "/my-org%2Freplay"],
)  # fmt: skip
async def test_what_does_not_exist_is_404_before_any_token_is_looked_at(hub: Hub, path: str) -> None:
    answer = await hub.get(path, token="nonsense")
    assert (answer.status, answer.codes) == (404, ["NOT_FOUND"])


@pytest.mark.parametrize("path", ["/my-org", "/-/healthy", "/my-org/nothing"])
async def test_an_expectation_that_nobody_knows_is_refused_in_the_one_format(hub: Hub, path: str) -> None:
    answer = await hub.get(path, headers={"Expect": "nothing-at-all"})
    assert (answer.status, answer.codes) == (400, ["INVALID_REQUEST"])


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "OPTIONS", "QUERY"])
@pytest.mark.parametrize(
    ("path", "allowed"), [("/my-org", "DELETE, GET"), ("/my-org/replay", "GET"), ("/-/healthy", "GET, HEAD")]
)
async def test_a_method_that_does_not_exist_is_405_and_names_what_is_allowed(
    hub: Hub, path: str, allowed: str, method: str
) -> None:
    answer = await hub.get(path, method=method, token="nonsense")
    assert (answer.status, answer.codes, answer.headers["allow"]) == (405, ["METHOD_NOT_ALLOWED"], allowed)


async def test_a_token_is_judged_before_the_organization_and_that_before_parameters(hub: Hub) -> None:
    bad = hub.token(exp=1, organization__slug="other")
    assert (await hub.get("/my-org?x=1", token=bad)).codes == ["EXPIRED_TOKEN"]
    other = hub.token(organization__slug="other")
    assert (await hub.get("/my-org?x=1", token=other)).codes == ["ORGANIZATION_MISMATCH"]


async def test_parameters_are_judged_before_the_lease(hub: Hub, organization: int) -> None:
    await hub.live()
    assert (await hub.get("/my-org?x=1")).codes == ["UNKNOWN_PARAMETER"]


async def test_an_unknown_parameter_is_named_with_the_nearest_known_one_and_never_its_value(hub: Hub) -> None:
    (error,) = (await hub.get("/my-org/replay?resource_type=s3cret&resource_type_eq=a&resource_id_in=b")).errors
    assert error["code"] == "UNKNOWN_PARAMETER"
    assert error["source"] == {"parameter": "resource_type"}
    assert "did you mean resource_type_eq?" in error["detail"]
    assert "s3cret" not in str(error)


async def test_a_parameter_that_is_a_long_secret_itself_is_cut(hub: Hub) -> None:
    token = hub.token()
    answer = await hub.get(f"/my-org?{token}")
    assert answer.codes == ["UNKNOWN_PARAMETER"]
    assert token.encode() not in answer.body


@pytest.mark.parametrize("path", ["/my-org/{}", "/{}", "/my-org/replays/{}", "/my-org?token={}"])
async def test_a_token_that_went_astray_into_the_url_is_not_logged(
    hub: Hub, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = hub.token()
    with caplog.at_level(logging.INFO):
        await hub.get(path.format(token))
        await hub.eventually(lambda: asyncio.sleep(0, "aiohttp.access" in str(caplog.record_tuples)))
    assert token[:32] not in caplog.text


@pytest.mark.parametrize("path", ["/my-org/{}", "/{}", "/my-org/replays/{}", "/my-org?{}=1", "/my-org/replay?{}=1"])
async def test_an_api_key_that_went_astray_into_the_url_is_neither_logged_nor_answered(
    hub: Hub, organization: int, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = key.new()
    with caplog.at_level(logging.INFO):
        answer = await hub.get(path.format(token))
        await hub.eventually(lambda: asyncio.sleep(0, "aiohttp.access" in str(caplog.record_tuples)))
    assert token not in caplog.text + answer.body.decode()


async def test_a_repeated_parameter_is_named(hub: Hub) -> None:
    answer = await hub.get("/my-org/replay?resource_type_eq=a&resource_id_in=b&resource_type_eq=c")
    assert answer.codes == ["REPEATED_PARAMETER"]
    assert answer.errors[0]["source"] == {"parameter": "resource_type_eq"}


@pytest.mark.parametrize("path", ["/my-org?", "/my-org/replay?resource_type_eq=a&resource_id_in=b&"])
@pytest.mark.parametrize(
    "position",
    ["x", "0", "6ba7b810-9dad-11d1-80b4-00c04fd430c8", "018f4f2e-5b7a-4c00-8000-000000000000",
     "01a202b2c57c70008000000000000000", "fffffffe-0000-7000-8000-000000000000"],
)  # fmt: skip
async def test_a_last_event_id_that_is_no_position_of_the_past_is_refused(hub: Hub, path: str, position: str) -> None:
    answer = await hub.get(path, headers={"Last-Event-ID": position})
    assert (answer.status, answer.codes) == (400, ["INVALID_LAST_EVENT_ID"])
    assert answer.errors[0]["source"] == {"header": "Last-Event-ID"}
    assert position in answer.errors[0]["detail"]


async def test_several_faults_are_listed_in_the_order_of_the_query_string(hub: Hub) -> None:
    path = "/my-org/replay?zzz=1&resource_id_in=a,,b&date_to=tomorrow&date_from=&date_to=x"
    assert (await hub.get(path)).codes == [
        "UNKNOWN_PARAMETER", "INVALID_RESOURCE_ID", "INVALID_DATE", "INVALID_DATE", "REPEATED_PARAMETER",
        "MISSING_RESOURCE_TYPE",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("query", "codes"),
    [
        ("", ["MISSING_DATE_RANGE"]),
        ("date_from=2026-01-01T00:00:00Z", ["MISSING_DATE_RANGE"]),
        ("date_to=2026-01-01T00:00:00Z", ["MISSING_DATE_RANGE"]),
        ("resource_type_eq=skus", ["MISSING_DATE_RANGE"]),
        ("resource_id_in=a", ["MISSING_RESOURCE_TYPE"]),
        ("date_from=2026-01-01T00:00:00Z&date_to=2026-01-02T00:00:00Z&resource_id_in=a", ["MISSING_RESOURCE_TYPE"]),
        ("date_from=&date_to=2026-01-01T00:00:00Z", ["INVALID_DATE"]),
        ("date_from=2026-01-01T00:00:00+02:00&date_to=2026-01-02T00:00:00Z", ["INVALID_DATE"]),
        ("date_from=2026-01-02T00:00:00Z&date_to=2026-01-02T00:00:00Z", ["DATE_RANGE_INVALID"]),
        ("date_from=2026-01-02T00:00:00Z&date_to=2026-01-01T00:00:00Z", ["DATE_RANGE_INVALID"]),
        ("date_from=2126-01-01T00:00:00Z&date_to=2126-01-02T00:00:00Z", ["DATE_RANGE_INVALID"]),
        ("date_from=2026-01-01T00:00:00Z&date_to=2026-01-08T00:00:00.000001Z", ["DATE_RANGE_TOO_LONG"]),
        ("date_from=2026-01-01T00:00:00Z&date_to=2126-01-08T00:00:00Z", ["DATE_RANGE_TOO_LONG"]),
        ("date_from=2026-01-01T00:00:00Z&date_to=x&zz=", ["INVALID_DATE", "UNKNOWN_PARAMETER"]),
        ("zz=&date_from=2026-01-02T00:00:00Z&date_to=2026-01-01T00:00:00Z&yy=",
         ["UNKNOWN_PARAMETER", "DATE_RANGE_INVALID", "UNKNOWN_PARAMETER"]),
        ("resource_type_eq=skus&resource_id_in=", ["INVALID_RESOURCE_ID"]),
        ("resource_type_eq=skus&resource_id_in=a,,b", ["INVALID_RESOURCE_ID"]),
        ("resource_type_eq=skus&resource_id_in=%20a", ["INVALID_RESOURCE_ID"]),
        ("resource_type_eq=skus&resource_id_in=a%20", ["INVALID_RESOURCE_ID"]),
        ("resource_type_eq=skus&resource_id_in=a%00b", ["INVALID_RESOURCE_ID"]),
        ("resource_type_eq=skus&resource_id_in=a%0Ab,%09", ["INVALID_RESOURCE_ID"] * 2),
        ("resource_type_eq=skus&resource_id_in=" + "x" * 256, ["INVALID_RESOURCE_ID"]),
        ("resource_type_eq=skus&resource_id_in=" + ",".join(["x" * 40] * 501), ["TOO_MANY_RESOURCE_IDS"]),
        ("resource_type_eq=&resource_id_in=a", ["INVALID_FILTER"]),
        ("resource_type_eq=a%00&resource_id_in=a", ["INVALID_FILTER"]),
    ],
)  # fmt: skip
async def test_a_replay_that_is_asked_wrongly_is_told_how(hub: Hub, query: str, codes: list[str]) -> None:
    answer = await hub.get(f"/my-org/replay?{query}")
    assert (answer.status, answer.codes) == (400, codes)
    assert all("parameter" in error["source"] for error in answer.errors)


@pytest.mark.parametrize(
    "query",
    [
        "date_from=2026-01-01T00:00:00Z&date_to=2026-01-08T00:00:00Z",
        "date_from=2026-01-01T00:00:00%2B02:00&date_to=2026-01-02T00:00:00Z",
        "resource_type_eq=skus&resource_id_in=" + ",".join(f"{n:0>255}" for n in range(500)),
        "resource_type_eq=skus&resource_id_in=a%20b,%C3%BC",
        "resource_type_eq=skus&resource_id_in=a&date_from=2020-01-01T00:00:00Z",
        "resource_type_eq=skus&resource_id_in=a&date_to=2020-01-01T00:00:00Z",
        "resource_type_eq=skus&resource_id_in=a&date_to=2126-01-01T00:00:00Z",
    ],
)
async def test_the_longest_and_oddest_good_replays_are_taken(hub: Hub, organization: int, query: str) -> None:
    client = await hub.open(f"/my-org/replay?{query}")
    assert client.status == 200
    assert [frame.event for frame in await client.rest()] == ["replay_started", "stream_complete"]


async def test_a_plus_that_arrived_as_a_space_is_explained(hub: Hub) -> None:
    answer = await hub.get("/my-org/replay?date_from=2026-01-01T00:00:00+02:00&date_to=2026-01-02T00:00:00Z")
    assert "%2B" in answer.errors[0]["detail"]


@pytest.mark.parametrize(
    ("line", "status", "allowed"),
    [
        ("FOO /my-org HTTP/1.1", b"HTTP/1.1 405 ", b"\r\nallow: delete, get\r\n"),
        ("get /my-org/replay?types=a HTTP/1.0", b"HTTP/1.0 405 ", b"\r\nallow: get\r\n"),
        ("FOO /-/nothing HTTP/1.1", b"HTTP/1.1 404 ", b"\r\n"),
    ],
)
async def test_a_method_that_no_parser_knows_is_one_that_does_not_exist(
    hub: Hub, line: str, status: bytes, allowed: bytes
) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(f"{line}\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc".encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith(status)
    assert allowed in answer.lower()
    assert b"content-type: application/vnd.api+json" in answer.lower()


@pytest.mark.parametrize(
    "text", ["nonsense\r\n\r\n", "GET\r\n\r\n", "FOO my-org HTTP/1.1\r\n\r\n",
             "GET /my-org HTTP/1.1\r\nHost: h\r\n\r\nFOO /my-org HTTP/1.1\r\n\r\n",
             "F(O /my-org HTTP/1.1\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "GET /my-org\r\nHost: h\r\n\r\n",
             "GET /my-org HTTP/0.9\r\n\r\n", "GET / HTTP/1.1\r\nBad Header\r\n\r\n",
             "GET /" + "a" * 300_000 + " HTTP/1.1\r\n\r\n"],
)  # fmt: skip
async def test_what_is_no_http_is_refused_in_the_same_format(hub: Hub, text: str) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", hub.port)
    writer.write(text.encode())
    answer = await asyncio.wait_for(reader.read(), 5)
    writer.close()
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.0 400 "))
    assert b"content-type: application/vnd.api+json" in answer.lower()
    assert b'"code":"INVALID_REQUEST"' in answer


async def test_an_unexpected_failure_is_500_without_its_cause(hub: Hub, organization: int) -> None:
    await hub.history.pool.execute("ALTER TABLE streamhub_hub.streams RENAME COLUMN epoch TO s3cret")
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (500, ["INTERNAL"])
    assert b"s3cret" not in answer.body
    assert b"epoch" not in answer.body


async def test_while_the_database_is_away_a_request_gets_503(hub: Hub, organization: int) -> None:
    await hub.gateway.hub.close()
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
    assert "retry-after" in answer.headers


async def test_a_gateway_that_has_lost_its_trust_says_503_before_it_looks_at_a_token(hub: Hub) -> None:
    hub.gateway.node._trust.lost()
    assert (await hub.get("/my-org", token="nonsense")).codes == ["UNAVAILABLE"]


async def test_healthy_needs_no_token(hub: Hub) -> None:
    client = await hub.open("/-/healthy", token="nonsense")
    assert client.status == 200


async def test_ready_is_200_where_the_database_answers(hub: Hub) -> None:
    assert (await hub.open("/-/ready")).status == 200


async def test_ready_is_503_where_it_does_not(hub: Hub) -> None:
    await hub.gateway.hub.close()
    assert (await hub.open("/-/ready")).status == 503


async def test_a_port_that_is_taken_is_told_in_a_sentence(start_hub: Any) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UserError, match=r"cannot listen on 127\.0\.0\.1 port"):
            await start_hub(operations_port=taken.getsockname()[1])


async def test_an_operations_port_of_its_own_takes_the_pages_off_the_public_one(start_hub: Any) -> None:
    port = free_port()
    hub = await start_hub(operations_port=port)
    assert (await hub.get("/-/healthy")).status == 404
    assert (await hub._replace(port=port).open("/-/healthy")).status == 200
    assert (await hub._replace(port=port).get("/my-org")).status == 404


async def test_without_the_role_gateway_only_the_operators_pages_are_there(start_hub: Any) -> None:
    hub = await start_hub(roles=frozenset({"relay"}))
    assert (await hub.open("/-/ready")).status == 200
    assert (await hub.get("/my-org")).codes == ["NOT_FOUND"]


def test_every_code_that_there_is_belongs_to_a_status_of_the_contract() -> None:
    assert all(code in CODES[problem.status] for code, problem in PROBLEMS.items())


def test_the_exceptions_that_mean_unavailable_are_no_programming_errors() -> None:
    assert not issubclass(asyncpg.UndefinedColumnError, DATABASE_AWAY)
