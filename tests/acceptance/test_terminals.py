"""Where commands write to, and what they are told to listen on."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.acceptance.conftest import STREAMHUB, Running

Start = Callable[..., Running]
Run = Callable[..., subprocess.CompletedProcess[str]]
Bash = Callable[..., str]

PROGRAM = " ".join(STREAMHUB)


def test_all_addresses_are_those_of_both_families_and_the_url_that_is_printed_works(start: Start, bash: Bash) -> None:
    serving = start("serve", "--host", "::")
    url = serving.wait_for(r"gateway, relay and webhooks on (http://\S+)$", within=60)[1]
    by_ipv6 = f"http://[::1]:{url.rpartition(':')[2]}"
    answers = [bash(f"curl -s -o /dev/null -w '%{{http_code}}' '{at}/-/healthy'") for at in (url, by_ipv6)]
    assert answers == ["200", "200"]


@pytest.mark.parametrize("host", ["nosuch.invalid", "192.0.2.1", "a" * 70, "x..y"])
def test_an_address_that_is_not_this_machines_is_named_and_no_other_port_advised(streamhub: Run, host: str) -> None:
    done = streamhub("serve", "--host", host)
    assert done.returncode == 1
    assert host in done.stderr
    assert "--host 127.0.0.1" in done.stderr
    assert "--port" not in done.stderr
    assert "Traceback" not in done.stderr


def test_at_a_dumb_terminal_the_demo_prints_lines_until_it_is_stopped(environment: dict[str, str]) -> None:
    environment["TERM"] = "dumb"
    outer, inner = pty.openpty()
    demo = subprocess.Popen([*STREAMHUB, "demo"], stdin=subprocess.DEVNULL, stdout=inner, stderr=inner, env=environment)
    os.close(inner)
    output, give_up = "", time.monotonic() + 60
    try:
        while not re.search(r"^\d+ events, ", output, re.MULTILINE) and time.monotonic() < give_up:
            if select.select([outer], [], [], 1)[0]:
                output += os.read(outer, 65536).decode(errors="replace")
        demo.send_signal(signal.SIGINT)
        assert demo.wait(30) == 0, output
    finally:
        demo.kill()
        demo.wait()
        os.close(outer)
    assert re.search(r"^event  \d\d:\d\d:\d\d", output, re.MULTILINE), output
    assert "\x1b[" not in output


@pytest.mark.parametrize("streams", [">&-", "<&- >&- 2>&-"])
def test_a_demo_without_a_stdout_does_its_check(bash: Bash, streams: str) -> None:
    assert bash(f"({PROGRAM} demo --for 2 {streams}); echo $?", 90) == "0\n"


@pytest.mark.parametrize("encoding", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0"}])
def test_a_stdout_that_is_not_utf_8_takes_what_the_demo_says(
    start: Start, environment: dict[str, str], encoding: dict[str, str]
) -> None:
    environment.update(encoding, PYTHONUTF8="0")
    demo = start("demo", "--for", "2")
    assert demo.exit_code(90) == 0, demo.output
    assert re.search(r"^Starting PostgreSQL and the hub in \S+ \.\.\.$", demo.output, re.MULTILINE), demo.output
    assert "Traceback" not in demo.output


def test_a_reader_that_leaves_changes_nothing_of_what_doctor_finds(
    bash: Bash, streamhub: Run, environment: dict[str, str], data_dir: Path
) -> None:
    streamhub("org", "add", "my-org")
    whole = streamhub("doctor")
    cut = bash(f"{PROGRAM} doctor 2>{data_dir}/said | head -1; echo ${{PIPESTATUS[0]}}; cat {data_dir}/said", 60)
    first, code = cut.splitlines()
    assert (first, int(code)) == (whole.stdout.splitlines()[0], whole.returncode)
