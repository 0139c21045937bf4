"""`streamhub publish`, on a scripted server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from aiohttp import web
from click.testing import Result

from streamhub.client.blocking import LoopThread
from tests.support.client_commands import Command


class Asked(NamedTuple):
    path: str
    headers: dict[str, str]
    body: bytes


class Scripted:
    """It accepts what it is sent, once its `answers` are given: each a status, headers and a body."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.answers: list[tuple[int, dict[str, str], Any]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.asked.append(Asked(request.path, dict(request.headers), body))
        status, headers, answer = self.answers.pop(0) if self.answers else (202, {}, None)
        answer = answer or {"data": [{"publish_id": orjson.loads(body)["publish_id"]}]}
        return web.json_response(answer, status=status, headers=headers)

    def run(self, *arguments: str, written: str | None = None) -> Result:
        known = {"STREAMHUB_URL": self.url, "STREAMHUB_ORG": "my-org", "STREAMHUB_TOKEN": "sh_ak_secret"}
        with Command(["publish", *arguments], known, written) as command:
            return command.result


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Scripted]:
    monkeypatch.setattr("random.uniform", lambda *_: 0.01)  # of the pause between tries
    scripted, thread = Scripted(), LoopThread("scripted")
    app = web.Application()
    app.router.add_post("/{org}/events", scripted.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"http://127.0.0.1:{runner.addresses[0][1]}"

    scripted.url = thread.run(start())
    yield scripted
    thread.close(runner.cleanup)


def refusal(status: int, code: str, detail: str, **headers: str) -> tuple[int, dict[str, str], Any]:
    return status, headers, {"errors": [{"status": str(status), "code": code, "detail": detail}]}


def test_an_event_is_sent_as_it_was_written_and_its_publish_id_is_printed(hub: Scripted) -> None:
    result = hub.run("query.received", "--data", '{"price": 12.50}', "--resource-id", "7", "--publish-id", "query-7")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "query-7\n", "")
    (asked,) = hub.asked
    assert asked.path == "/my-org/events"
    assert asked.headers["Authorization"] == "Bearer sh_ak_secret"
    assert asked.headers["Content-Type"] == "application/json"
    assert asked.body == (b'{"type":"query.received","resource_id":"7","publish_id":"query-7","data":{"price": 12.50}}')


def test_without_a_publish_id_one_is_made(hub: Scripted) -> None:
    result = hub.run("query.received", "--data", "null", "--resource-type", "queries")
    sent = json.loads(hub.asked[0].body)
    assert result.stdout == f"{sent['publish_id']}\n"
    assert sent == {
        "type": "query.received",
        "resource_type": "queries",
        "publish_id": sent["publish_id"],
        "data": None,
    }


def test_data_may_come_from_a_file_or_from_stdin(hub: Scripted, tmp_path: Path) -> None:
    (tmp_path / "query.json").write_text('{"from": "a file"}\n')
    assert hub.run("query.received", "--data", f"@{tmp_path / 'query.json'}").exit_code == 0
    assert hub.run("query.received", "--data", "-", written='{"from": "stdin"}\n').exit_code == 0
    assert [json.loads(asked.body)["data"]["from"] for asked in hub.asked] == ["a file", "stdin"]


def test_while_the_hub_is_away_it_tries_again_with_the_same_publish_id(hub: Scripted) -> None:
    hub.answers = [refusal(503, "UNAVAILABLE", "The database is away."), refusal(500, "INTERNAL", "Oh.")]
    result = hub.run("query.received", "--data", "1")
    assert result.exit_code == 0
    assert len(hub.asked) == 3
    assert len({asked.body for asked in hub.asked}) == 1
    assert result.stderr.splitlines()[0] == (
        "/my-org/events: UNAVAILABLE: The database is away; the next try is in 0.0 s"
    )


def test_after_five_tries_it_gives_up_in_one_sentence(hub: Scripted) -> None:
    hub.answers = [refusal(503, "UNAVAILABLE", "The database is away.")] * 9
    result = hub.run("query.received", "--data", "1")
    assert (result.exit_code, result.stdout, len(hub.asked)) == (1, "", 5)
    assert result.stderr.splitlines()[-1] == "streamhub: UNAVAILABLE: The database is away."


def test_where_nothing_listens_it_says_so(hub: Scripted) -> None:
    result = hub.run("query.received", "--data", "1", "--url", "http://127.0.0.1:1")
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1] == (
        "streamhub: not published after 5 tries: 127.0.0.1:1 cannot be reached: Connection refused"
    )


def test_what_the_hub_refuses_is_one_sentence_without_another_try(hub: Scripted) -> None:
    hub.answers = [refusal(403, "MISSING_SCOPE", "The key has no scope events:write.")]
    result = hub.run("query.received", "--data", "1")
    assert (result.exit_code, len(hub.asked)) == (1, 1)
    assert result.stderr == "streamhub: MISSING_SCOPE: The key has no scope events:write.\n"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["query.heartbeat", "--data", "1"], "'query.heartbeat': its last segment is the name of a control frame"),
        (["stream_complete", "--data", "1"], "'stream_complete': its last segment is the name of a control frame"),
        (["query received", "--data", "1"], "'query received': letters, digits, _ and -"),
        (["query.", "--data", "1"], "such as query.received"),
        (["q" * 256, "--data", "1"], "at most 255 characters"),
        (["query.received"], "Missing option '--data'"),
        (["query.received", "--data", "{'query': 7}"], "is no JSON"),
        (["query.received", "--data", "NaN"], "'NaN' is no JSON"),
        (["query.received", "--data", ""], "'' is no JSON"),
        (["query.received", "--data", "@/missing.json"], "/missing.json cannot be read: No such file or directory"),
        (["query.received", "--data", '"' + "x" * 1024 * 1024 + '"'], "it has over 1048576 bytes"),
        (["query.received", "--data", "1", "--resource-id", ""], "'' is empty"),
        (["query.received", "--data", "1", "--publish-id", " x"], "' x' begins or ends with a space"),
    ],
)  # fmt: skip
def test_wrong_usage_is_named_before_anything_is_sent(hub: Scripted, arguments: list[str], says: str) -> None:
    result = hub.run(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in " ".join(result.stderr.split())
    assert hub.asked == []
