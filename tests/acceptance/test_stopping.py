"""A start that is stopped, a start that will never succeed, and a stop that leaves nothing behind."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from servers.clusters import cluster_directory
from servers.ports import free_port
from streamhub.embedded.server import EmbeddedPostgres
from tests.acceptance.conftest import Running, none_left
from tests.conftest import database_of

Start = Callable[..., Running]
Run = Callable[..., subprocess.CompletedProcess[str]]

ENDED_WITHIN = 8.0  # seconds: 2, on a machine four times slower


@pytest.fixture
def away(environment: dict[str, str], data_dir: Path) -> dict[str, str]:
    """The settings of a hub whose database does not run."""
    environment["STREAMHUB_DATABASE_URL"] = f"postgresql://hub@127.0.0.1:{free_port()}/hub"
    environment["STREAMHUB_SIGNING_KEY_FILE"] = str(data_dir / "key.pem")
    return environment


@pytest.fixture
def silent() -> Iterator[str]:
    """The URL of a server that takes connections and never says a word."""
    with socket.create_server(("127.0.0.1", free_port()), backlog=16) as listening:
        yield f"postgresql://hub@127.0.0.1:{listening.getsockname()[1]}/hub"


def ended_by(running: Running, number: int) -> float:
    began = time.monotonic()
    assert running.end(number) == 0, running.output
    assert "Traceback" not in running.output
    return time.monotonic() - began


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_signal_ends_a_start_that_waits_for_its_database(
    start: Start, away: dict[str, str], workers: str, number: signal.Signals
) -> None:
    serving = start("serve", "--workers", workers)
    serving.wait_for("retrying", within=60)
    assert ended_by(serving, number) < ENDED_WITHIN


def test_a_signal_ends_a_start_whose_database_does_not_answer(start: Start, away: dict[str, str], silent: str) -> None:
    away["STREAMHUB_DATABASE_URL"] = silent
    serving = start("serve")
    serving.wait_for("the hub's database is", within=60)
    assert ended_by(serving, signal.SIGTERM) < ENDED_WITHIN


@pytest.fixture
def server() -> Iterator[EmbeddedPostgres]:
    directory = cluster_directory()
    postgres = EmbeddedPostgres(directory)
    postgres.start()
    try:
        yield postgres
    finally:
        postgres.stop("immediate")
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def frozen(server: EmbeddedPostgres) -> Iterator[None]:
    """Its connections stay, and nothing answers on them."""
    main = server.pid
    assert main is not None
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    for pid in (main, *map(int, children)):
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in (main, *map(int, children)):
            os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("frozen_for", [0.1, 6.0], ids=["while it is trusted", "after the lease"])
def test_a_signal_ends_a_process_whose_database_hangs(
    start: Start, environment: dict[str, str], tmp_path: Path, server: EmbeddedPostgres, frozen_for: float
) -> None:
    environment["STREAMHUB_DATABASE_URL"] = server.url
    environment["STREAMHUB_SIGNING_KEY_FILE"] = str(tmp_path / "key.pem")
    serving = start("serve")
    serving.wait_for("leading with epoch", within=60)
    with frozen(server):
        time.sleep(frozen_for)
        assert ended_by(serving, signal.SIGTERM) < ENDED_WITHIN


@pytest.mark.from_nothing
@pytest.mark.parametrize("command", ["serve", "demo"])
def test_a_signal_ends_a_start_that_makes_its_database(start: Start, data_dir: Path, command: str) -> None:
    starting = start(command)
    give_up = time.monotonic() + 60
    while not list(data_dir.rglob("data.new")) and time.monotonic() < give_up:
        time.sleep(0.01)
    assert ended_by(starting, signal.SIGTERM) < ENDED_WITHIN
    assert none_left(data_dir)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_workers_and_leaves_no_files(
    start: Start, environment: dict[str, str], tmp_path: Path, number: signal.Signals
) -> None:
    environment["TMPDIR"] = str(tmp_path)
    serving = start("serve", "--workers", "2")
    serving.wait_for(r"in 2 workers on", within=90)
    assert list(tmp_path.glob("streamhub-metrics-*"))
    assert serving.end(number, within=60) == 0, serving.output
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ("password", "password authentication failed"),
        ("role", "authentication failed"),
        ("database", 'database "nowhere" does not exist'),
        ("tls", "rejected SSL upgrade"),
        ("options", "unrecognized configuration parameter"),
    ],
)
def test_what_never_gets_better_ends_the_start_in_a_sentence(
    streamhub: Run, postgres_url: str, away: dict[str, str], wrong: str, says: str
) -> None:
    parts = urlsplit(postgres_url)
    away["STREAMHUB_DATABASE_URL"] = {
        "password": parts._replace(netloc=parts.netloc.replace(f":{parts.password}@", ":wrong@")).geturl(),
        "role": parts._replace(netloc=parts.netloc.replace(f"{parts.username}:", "nobody_here:")).geturl(),
        "database": database_of(postgres_url, "nowhere"),
        "tls": f"{postgres_url}{'&' if parts.query else '?'}sslmode=require",
        "options": f"{postgres_url}{'&' if parts.query else '?'}options=-c%20no_such%3D1",
    }[wrong]
    done = streamhub("serve")
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1], done.stderr
    assert ":wrong" not in done.stderr
    assert "retrying" not in done.stderr
    assert "Traceback" not in done.stderr
