"""`streamhub demo`, and everything that it tells its user to paste."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import STREAMHUB, Running, none_left

Start = Callable[..., Running]
Run = Callable[..., subprocess.CompletedProcess[str]]
Bash = Callable[..., str]

EVENT = r"^event  \d\d:\d\d:\d\d"


def pasted(demo: Running) -> dict[str, str]:
    """The lines that the demo prints to be pasted, by what they are for."""
    demo.wait_for(r"^A token for northwind-coffee:\n  .+$")
    lines = dict(re.findall(r"^(\S.*):\n  (.+)$", demo.output, re.MULTILINE))
    return {
        "listen": lines["Its events as they happen, in a second terminal"],
        "token": lines["A token for acme-outfitters, good for a day"],
        "dashboard": lines["The dashboard, which asks for that token"],
        "live": lines["Its live stream (one consumer at a time)"],
        "replay": lines["A replay of its events"],
        "psql": lines["Write to the shop by hand"],
        "other token": lines["A token for northwind-coffee"],
    }


def ids(stream: str) -> list[str]:
    return re.findall(r"^id: (.+)$", stream, re.MULTILINE)


@pytest.mark.from_nothing
def test_without_a_terminal_it_checks_a_live_stream_and_a_replay_and_exits_0(start: Start) -> None:
    demo = start("demo", "--for", "6")
    assert demo.exit_code(60) == 0, demo.output
    assert re.search(r"^checked: live: \d+ events, .* sha256 right$", demo.output, re.MULTILINE), demo.output


@pytest.mark.from_nothing
def test_the_first_event_is_on_the_screen_within_10_seconds(start: Start) -> None:
    begun = time.monotonic()
    start("demo").wait_for(EVENT)
    assert time.monotonic() - begun < 10


def test_without_traffic_the_check_writes_an_order_of_its_own(start: Start) -> None:
    demo = start("demo", "--for", "2", "--no-traffic")
    assert demo.exit_code(60) == 0, demo.output
    assert "checked: " in demo.output


def test_the_lines_it_prints_can_be_pasted(start: Start, bash: Bash) -> None:
    lines = pasted(start("demo", "--for", "120"))
    token = lines["token"]
    assert re.search(r"^\d\d:\d\d:\d\d\.\d{3}  \w+\.\w+ ", bash(f"timeout 5 {lines['listen']}"), re.MULTILINE)
    assert len(ids(bash(f"{token}; timeout 3 {lines['live']}"))) > 3
    replayed = bash(f"{token}; {lines['replay']}")
    assert replayed.startswith("event: replay_started\n")
    assert replayed.rstrip().splitlines()[-2] == "event: stream_complete"
    assert len(ids(replayed)) > 10
    assert bash(lines["psql"]) == "UPDATE 12\n"
    other = f"{lines['other token']}; timeout 3 {lines['live'].replace('acme-outfitters', 'northwind-coffee')}"
    assert len(ids(bash(other))) > 3
    assert "<title>Streamhub</title>" in bash(f"curl -s {lines['dashboard']}")


def test_what_is_written_by_hand_comes_out_of_the_live_stream(start: Start, bash: Bash) -> None:
    lines = pasted(start("demo", "--for", "120", "--no-traffic"))
    heard = bash(f"{lines['token']}; (sleep 1; {lines['psql']}) >/dev/null & timeout 3 {lines['live']}")
    assert heard.startswith("retry: 6000\n\nevent: heartbeat\n")
    assert heard.count('"type":"prices.update"') == 12


def test_a_table_of_ones_own_is_captured_beside_the_shop(start: Start, streamhub: Run, bash: Bash) -> None:
    lines = pasted(start("demo", "--for", "120", "--no-traffic"))
    psql = lines["psql"].partition(" -c ")[0]
    bash(f'{psql} -c "CREATE TABLE public.notes (id int PRIMARY KEY, body text, secret text)"')
    added = streamhub("capture", "add", "public.notes", "--org", "acme-outfitters", "--resource-type", "notes",
                      "--exclude", "secret")  # fmt: skip
    assert added.returncode == 0, added.stderr
    write = f"""{psql} -c "INSERT INTO public.notes VALUES (1, 'hello', 'hush')" """
    heard = bash(f"{lines['token']}; (sleep 1; {write}) >/dev/null & timeout 3 {lines['live']}")
    assert '"type":"notes.create"' in heard
    assert "hush" not in heard


def test_doctor_finds_a_running_demo_in_order(start: Start, streamhub: Run) -> None:
    start("demo", "--for", "120").wait_for(EVENT)
    result = streamhub("doctor")
    assert result.returncode == 0, result.stdout
    assert "ok    relay" in result.stdout
    assert "ok    history" in result.stdout


def test_ctrl_c_leaves_no_process_behind(start: Start, data_dir: Path) -> None:
    demo = start("demo", "--for", "120")
    demo.wait_for(EVENT)
    assert demo.end(signal.SIGINT) == 0, demo.output
    assert demo.output.endswith(f"\nStopped. The data stays in {data_dir} for the next start.\n")
    assert none_left(data_dir, within=0.5)


def test_a_second_start_goes_on_with_the_same_data(start: Start, bash: Bash) -> None:
    first = start("demo", "--for", "120")
    lines = pasted(first)
    before = ids(bash(f"{lines['token']}; {lines['replay']}"))
    first.end(signal.SIGINT)
    lines = pasted(start("demo", "--for", "120"))
    after = ids(bash(f"{lines['token']}; {lines['replay']}"))
    assert before
    assert after[: len(before)] == before


def test_after_kill_9_it_starts_again_with_the_same_data_and_nothing_lost(
    start: Start, bash: Bash, data_dir: Path
) -> None:
    first = start("demo", "--for", "120", "--rate", "100")
    lines = pasted(first)
    before = ids(bash(f"{lines['token']}; sleep 1; {lines['replay']}"))
    first.process.kill()
    assert none_left(data_dir)
    second = start("demo", "--for", "12")
    after = ids(bash(f"{lines['token']}; {pasted(second)['replay']}"))
    assert after[: len(before)] == before
    assert second.exit_code(60) == 0, second.output
    assert "checked: " in second.output


def test_a_postgres_that_is_killed_comes_back_and_nothing_is_lost(start: Start, data_dir: Path) -> None:
    demo = start("demo", "--for", "14", "--rate", "50")
    demo.wait_for(EVENT)
    time.sleep(2)
    os.kill(int((data_dir / "postgresql" / "data" / "postmaster.pid").read_text().splitlines()[0]), signal.SIGKILL)
    assert demo.exit_code(60) == 0, demo.output
    assert "checked: " in demo.output


def test_at_a_terminal_it_draws_until_ctrl_c(environment: dict[str, str], data_dir: Path) -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*STREAMHUB, "demo"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**environment, "TERM": "xterm-256color", "COLUMNS": "140", "LINES": "50"},
        start_new_session=True,
    )
    os.close(slave)
    try:
        drawn = read_terminal(master, until=rb"p50 [0-9.]+ ms", within=20)
        assert b"acme-outfitters" in drawn
        os.killpg(process.pid, signal.SIGINT)  # what a terminal does on Ctrl-C
        assert b"Stopped. The data stays in " in read_terminal(master, until=None, within=10)
        assert process.wait(10) == 0
    finally:
        process.kill()
        os.close(master)
    assert none_left(data_dir, within=0.5)


def read_terminal(master: int, until: bytes | None, within: float) -> bytes:
    """What was drawn up to a pattern, or to the end."""
    drawn = b""
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        if select.select([master], [], [], 0.1)[0]:
            try:
                more = os.read(master, 65536)
            except OSError:  # Linux: no process has the other end open
                more = b""
            if not more and until is None:
                return drawn
            drawn += more
            if until is not None and re.search(until, drawn):
                return drawn
    raise AssertionError(f"{until!r} was not drawn within {within} s: {drawn[-2000:]!r}")


@pytest.mark.from_nothing
def test_a_port_that_is_taken_is_one_sentence_and_nothing_is_started(streamhub: Run, port: int, data_dir: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        result = streamhub("demo")
    assert result.returncode == 1
    assert f"port {port}" in result.stderr
    assert f"--port {port + 1}" in result.stderr
    assert list(data_dir.iterdir()) == []


@pytest.mark.from_nothing
def test_a_directory_that_cannot_be_used_is_one_sentence(streamhub: Run, data_dir: Path) -> None:
    (data_dir / "file").touch()
    result = streamhub("demo", "--data-dir", str(data_dir / "file" / "inner"))
    assert result.returncode == 1
    assert str(data_dir / "file") in result.stderr
    assert "Traceback" not in result.stderr


def test_a_second_demo_on_the_same_data_is_told_of_the_first(start: Start, streamhub: Run) -> None:
    first = start("demo", "--for", "120")
    first.wait_for(EVENT)
    result = streamhub("demo")  # on the same port, too: it says what has to be stopped, not to take another port
    assert result.returncode == 1
    assert f"process {first.process.pid}" in result.stderr
    assert "port" not in result.stderr


@pytest.mark.from_nothing
@pytest.mark.parametrize("arguments", [("--rate", "0"), ("--for", "x"), ("--port", "x")])
def test_wrong_usage_is_told_before_anything_starts(streamhub: Run, data_dir: Path, arguments: tuple[str, str]) -> None:
    assert streamhub("demo", *arguments).returncode in (1, 2)
    assert list(data_dir.iterdir()) == []
