"""What browsers load from the hub."""

import pytest

from tests.integration.conftest import Client, Hub, StartHub

FILES = {"/-/client.js": "text/javascript", "/-/client.d.ts": "application/typescript"}


async def get(hub: Hub, path: str, **headers: str) -> Client:
    """Without a token."""
    return await Client.open(hub.port, path, [(name.replace("_", "-"), value) for name, value in headers.items()])


@pytest.mark.parametrize("path", FILES)
async def test_a_file_needs_no_token_and_is_asked_for_again_by_its_etag(hub: Hub, path: str) -> None:
    answer = await (await get(hub, path)).answer()
    assert (answer.status, answer.headers["content-type"]) == (200, f"{FILES[path]}; charset=utf-8")
    assert answer.headers["cache-control"] == "no-cache"
    assert b"export class StreamHub" in answer.body
    again = await get(hub, path, If_None_Match=answer.headers["etag"])
    assert (again.status, again.headers["etag"]) == (304, answer.headers["etag"])
    assert (await get(hub, path, If_None_Match='"another"')).status == 200


async def test_a_page_of_an_allowed_origin_may_import_the_client(start_hub: StartHub) -> None:
    hub = await start_hub(cors_origins=("https://app.example.com",))
    allowed = await get(hub, "/-/client.js", Origin="https://app.example.com")
    assert allowed.headers["access-control-allow-origin"] == "https://app.example.com"
    other = await get(hub, "/-/client.js", Origin="https://evil.example.com")
    assert "access-control-allow-origin" not in other.headers


async def test_a_process_without_gateways_has_the_client_too(start_hub: StartHub) -> None:
    hub = await start_hub(roles=frozenset({"relay"}))
    assert (await get(hub, "/-/client.js")).status == 200
    assert (await get(hub, "/my-org")).status == 404
