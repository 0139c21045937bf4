"""`streamhub listen`, on a fake hub."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest
from aiohttp import web

from streamhub.client import verify_webhook
from streamhub.client.blocking import LoopThread
from streamhub.testing import FakeHub
from streamhub.testing.fixtures import fake_hub
from tests.support.client_commands import PATIENCE, Cli, environment, until

__all__ = ["fake_hub"]

PRICE = {"price": {"from": "10.00", "to": "12.50"}}
TIME = r"\d\d:\d\d:\d\d\.\d{3}"


@pytest.fixture
def cli(fake_hub: FakeHub) -> Cli:
    return Cli(fake_hub)


def publish_one(fake: FakeHub) -> str:
    return fake.publish("skus.update", resource_id="a", resource={"id": "a", "price": "12.50"}, delta=PRICE)


def test_an_event_is_a_line_with_time_type_resource_and_what_changed(cli: Cli) -> None:
    result = cli.listen(then=lambda: publish_one(cli.fake))
    assert re.fullmatch(rf"{TIME}  skus\.update +a +price 10\.00 → 12\.50\n", result.stdout), result.stdout


def test_what_a_publisher_gave_is_shown(cli: Cli) -> None:
    result = cli.listen(then=lambda: cli.fake.publish("query.received", resource_id=None, data={"query": 7}))
    assert re.fullmatch(rf'{TIME}  query\.received +\{{"query":7\}}\n', result.stdout), result.stdout


def test_json_is_the_event_as_it_came_a_line_each(cli: Cli) -> None:
    result = cli.listen("--json", then=lambda: [publish_one(cli.fake) for _ in range(3)])
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["id"] for event in events] == [event.id for event in cli.fake._server.events]
    assert events[0]["delta"] == PRICE


def test_what_ends_it_for_good_is_one_sentence_and_exit_code_1(cli: Cli) -> None:
    result = cli.listen(then=lambda: None)
    assert result.exit_code == 1
    assert result.stderr == "listening; Ctrl-C ends\nstreamhub: DELETED: The test said so.\n"


def test_a_wrong_token_is_one_sentence_without_the_token(cli: Cli) -> None:
    result = cli.run("listen", "--token", "sh_ak_wrong")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "streamhub: INVALID_TOKEN: It is not the token of this fake hub.\n"


def test_types_and_filters_are_the_hubs_to_judge(cli: Cli) -> None:
    def publish() -> None:
        cli.fake.publish("skus.update", resource={"status": "paid"}, delta=PRICE)
        cli.fake.publish("skus.update", resource={"status": "new"}, delta=PRICE)
        cli.fake.publish("orders.create", resource={"status": "paid"}, delta=PRICE)

    result = cli.listen("--types", "skus.*", "--filter", "resource.status_eq=paid", "--json", then=publish)
    assert [json.loads(line)["resource"] for line in result.stdout.splitlines()] == [{"status": "paid"}]
    assert cli.fake.seen[0].query == {"types": "skus.*", "resource.status_eq": "paid", "envelope": "change"}


@pytest.mark.parametrize(
    ("types", "says"),
    [
        (
            "orders",
            "no event of type orders was seen in 30 days; types are like orders.create, and orders.* takes all of",
        ),
        ("skus.updated", "no event of type skus.updated was seen in 30 days; did you mean skus.update?"),
        ("skus.*,x.y", "no event of type x.y was seen in 30 days; there were orders.create, skus.update"),
        ("*.update", ""),
    ],
)
def test_a_type_that_no_event_has_is_told_and_what_may_have_been_meant(cli: Cli, types: str, says: str) -> None:
    for type_ in ("skus.update", "orders.create"):
        cli.fake.publish(type_)
    result = cli.listen("--types", types, then=lambda: None)
    told = [line for line in result.stderr.splitlines() if line.startswith("no event")]
    assert len(told) == bool(says)
    assert "".join(told).startswith(says)


def test_where_no_hub_is_it_says_so_at_once(cli: Cli) -> None:
    result = cli.run("listen", "--url", "http://127.0.0.1:1")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == "streamhub: 127.0.0.1:1 cannot be reached: Connection refused\n"


def test_a_token_that_expires_ends_it_at_once(cli: Cli) -> None:
    with cli.start("listen") as command:
        cli.fake.wait_for(1, "broadcast", within=PATIENCE)
        cli.fake.expire_token(new="another")
        result = command.result
    assert result.exit_code == 1
    assert result.stderr == "listening; Ctrl-C ends\nstreamhub: EXPIRED_TOKEN: The test said so.\n"
    assert len(cli.fake.seen) == 1


def test_the_organization_may_come_from_the_token(cli: Cli) -> None:
    key = "a key of at least 32 bytes for HS256"
    token = jwt.encode({"organization": {"slug": "another-org"}}, key, algorithm="HS256")
    cli.run("listen", STREAMHUB_TOKEN=token, STREAMHUB_ORG="")
    assert cli.fake.seen[0].headers["Authorization"] == f"Bearer {token}"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--types", "skus.*,"], "such as skus.update"),
        (["--filter", "resource.status"], "'resource.status' is not PATH_PREDICATE=VALUE"),
        (["--filter", "resource.status_ek=x"], "'ek' is none; did you mean eq?"),
        (["--filter", "status_eq=x"], "status_eq"),
        (["--live", "--types", "skus.*"], "the live stream has every event"),
        (["--forward-to", "ftp://here"], "'ftp://here' is no address"),
        (["--forward-to", "http://me:secret@here"], "is no address"),
        (["--secret", "whsec_QUJD"], "give both"),
        (["--forward-to", "localhost:1", "--secret", "hunter2"], "is whsec_ and base64"),
        (["--url", "here"], "'here' is no address of a hub"),
        (["--token", "sh_ak_x", "--org", ""], "this token does not tell its organization"),
        (["--token", " ", "--url", "https://hub.example"], "not for https://hub.example"),
    ],
)
def test_wrong_usage_is_named_before_anything_is_asked(cli: Cli, arguments: list[str], says: str) -> None:
    result = cli.run("listen", *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert says in " ".join(result.stderr.split())
    assert "hunter2" not in result.stderr
    assert cli.fake.seen == []


def test_without_a_token_and_a_hub_here_it_says_how_to_get_one(cli: Cli, tmp_path: Path) -> None:
    result = cli.run("listen", "--data-dir", str(tmp_path), STREAMHUB_TOKEN="")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"streamhub: no hub runs in {tmp_path} to make a token for: start one with")


def test_a_lost_connection_is_told_on_stderr_and_nothing_is_lost(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("random.uniform", lambda *_: 0.01)  # of the pause between tries
    with cli.start("listen", "--json") as command:
        cli.fake.wait_for(1, "broadcast", within=PATIENCE)
        first = publish_one(cli.fake)
        cli.fake.end_streams("DRAINING")
        second = publish_one(cli.fake)
        until(lambda: len(cli.fake.seen) == 2 and cli.fake.streams("broadcast") == 1, "it is connected again")
        cli.fake.end_streams("DELETED", resumable=False)
        result = command.result
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == [first, second]
    first_line, lost, again, _ = result.stderr.splitlines()
    assert first_line == "listening; Ctrl-C ends"
    assert re.fullmatch(r"/my-org/events/stream: DRAINING: The test said so; the next try is in \d\.\d s", lost)
    assert again == "connected again"


def test_what_is_left_out_is_told_with_the_replay_that_has_it(cli: Cli) -> None:
    end = datetime(2026, 11, 30, 10, tzinfo=UTC)
    cli.fake.gap(cli.fake.publish("skus.create"), end - timedelta(hours=1), end)
    result = cli.listen(then=lambda: None)
    assert "streamhub replay --from 2026-11-30T09:00:00.000Z --to 2026-11-30T10:00:00.000Z\n" in result.stderr


def test_the_live_stream_is_taken_where_that_is_asked_for(cli: Cli) -> None:
    result = cli.listen("--live", "--json", then=lambda: publish_one(cli.fake), kind="live")
    assert [seen.kind for seen in cli.fake.seen] == ["live"]
    assert json.loads(result.stdout)["delta"] == PRICE


# -- as webhooks


class Receiver:
    """An application that answers each delivery with the next of `answers`, then with 200."""

    def __init__(self) -> None:
        self.answers: list[int] = []
        self.got: list[tuple[bytes, dict[str, str]]] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        self.got.append((await request.read(), dict(request.headers)))
        return web.Response(status=self.answers.pop(0) if self.answers else 200)


@contextmanager
def receiving() -> Iterator[Receiver]:
    receiver, thread = Receiver(), LoopThread("receiver")
    app = web.Application()
    app.router.add_post("/hooks", receiver.handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)

    async def start() -> str:
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        return f"127.0.0.1:{runner.addresses[0][1]}/hooks"

    receiver.url = thread.run(start())
    try:
        yield receiver
    finally:
        thread.close(runner.cleanup)


def test_events_are_forwarded_as_webhooks_that_the_receiver_can_verify(cli: Cli) -> None:
    def publish() -> None:
        publish_one(cli.fake)
        cli.fake.publish("query.received", resource_id=None, data={"price": 12.5})
        until(lambda: len(receiver.got) == 2, "both are delivered")

    with receiving() as receiver:
        receiver.answers = [204, 500]
        result = cli.listen("--forward-to", receiver.url, then=publish)
    said = re.search(rf"^forwarding to http://{receiver.url}, signed with (whsec_\S+)$", result.stderr, re.MULTILINE)
    assert said is not None
    first, second = (verify_webhook(body, headers, said[1]) for body, headers in receiver.got)
    assert list(first) == ["id", "type", "created_at", "data"]
    assert first["data"]["delta"] == PRICE
    assert second["data"] == {"price": 12.5}
    assert receiver.got[0][1]["webhook-id"] == first["id"]
    lines = result.stdout.splitlines()
    assert re.search(r"price 10\.00 → 12\.50  \[204 No Content in \d+ ms\]$", lines[0])
    assert re.search(r"\[500 Internal Server Error in \d+ ms\]$", lines[1])


def test_a_secret_of_ones_own_holds_over_restarts(cli: Cli) -> None:
    secret = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

    def publish() -> None:
        publish_one(cli.fake)
        until(lambda: bool(receiver.got), "it is delivered")

    with receiving() as receiver:
        cli.listen("--forward-to", receiver.url, "--secret", secret, then=publish)
    verify_webhook(*receiver.got[0], secret)


def test_an_address_where_nothing_listens_is_told_and_stops_nothing(cli: Cli) -> None:
    result = cli.listen("--json", "--forward-to", "127.0.0.1:1", then=lambda: [publish_one(cli.fake) for _ in range(2)])
    assert len(result.stdout.splitlines()) == 2
    assert (
        len(
            re.findall(
                r"^\S{36}: 127\.0\.0\.1:1 cannot be reached: Connection refused in \d+ ms$", result.stderr, re.MULTILINE
            )
        )
        == 2
    ), result.stderr


# -- processes of their own


LISTEN = [sys.executable, "-m", "streamhub", "listen"]


def test_ctrl_c_ends_it_cleanly_and_head_gets_no_traceback(fake_hub: FakeHub) -> None:
    stopped = subprocess.Popen(LISTEN, env=environment(fake_hub), stdout=-1, stderr=-1, text=True)
    headed = subprocess.Popen(
        ["bash", "-c", '"$@" --json | head -n 1', "bash", *LISTEN],
        env=environment(fake_hub),
        stdout=-1,
        stderr=-1,
        text=True,
    )
    fake_hub.wait_for(2, "broadcast", within=PATIENCE)
    publish_one(fake_hub)
    assert stopped.stdout is not None
    assert "price 10.00 → 12.50" in stopped.stdout.readline()
    until(
        lambda: headed.poll() is not None or not publish_one(fake_hub), "head ends, and at its next line what it reads"
    )
    stopped.send_signal(signal.SIGINT)
    out, err = stopped.communicate(timeout=PATIENCE)
    assert (stopped.returncode, err) == (0, "listening; Ctrl-C ends\n"), out
    out, err = headed.communicate(timeout=PATIENCE)
    assert len(out.splitlines()) == 1
    assert err == "listening; Ctrl-C ends\n"


def test_a_terminal_gets_colors_and_no_line_that_is_wider_than_it(fake_hub: FakeHub) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        LISTEN, env=environment(fake_hub, TERM="xterm-256color", COLUMNS="80"),
        stdin=slave, stdout=slave, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    os.close(slave)
    fake_hub.wait_for(1, "broadcast", within=PATIENCE)
    delta = {"note": {"from": "\x1b[31mred", "to": "x" * 200}}
    fake_hub.publish("skus.update", resource_id="a", delta=delta)
    seen = b""
    while b"\n" not in seen:
        seen += os.read(master, 4096)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=PATIENCE)
    os.close(master)
    line = seen.decode().rstrip()
    assert "\x1b[36mskus.update" in line
    assert "\\x1b[31mred" in line
    plain = re.sub(r"\x1b\[\d*m", "", line)
    assert len(plain) == 80
    assert plain.endswith("…")
