"""The embedded PostgreSQL: starts, crashes, goes on, and never outlives us."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from servers.directories import data_directory
from streamhub.embedded import EmbeddedPostgres, url_of_running
from streamhub.errors import UserError

HOLDER = """
import sys, time
from pathlib import Path
from streamhub.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


@pytest.fixture
def fresh_dir() -> Iterator[Path]:
    path = data_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def data_dir() -> Iterator[Path]:
    """One for all tests that can do with a cluster that others have used."""
    path = data_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def server(data_dir: Path) -> Iterator[EmbeddedPostgres]:
    server = EmbeddedPostgres(data_dir)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def other_process(data_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the server; its first line is the postmaster's pid."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(data_dir)], stdout=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.wait()
    server = EmbeddedPostgres(data_dir)
    server.start()  # once the former server has gone
    server.stop()


async def fetch(url: str, query: str) -> object:
    connection = await asyncpg.connect(url, timeout=10)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def is_gone(pid: int, within: float = 10.0) -> bool:
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


async def test_a_first_start_makes_a_database_in_utf8_and_utc(server: EmbeddedPostgres) -> None:
    facts = (
        "SELECT current_database() || ' ' || current_setting('server_encoding') || ' ' || current_setting('timezone')"
    )
    assert await fetch(server.url, facts) == "streamhub UTF8 UTC"


async def test_upper_and_lower_case_work_beyond_ascii(server: EmbeddedPostgres) -> None:
    assert await fetch(server.url, "SELECT upper('malmö é')") == "MALMÖ É"


async def test_nothing_durable_is_turned_off(server: EmbeddedPostgres) -> None:
    names = "('fsync', 'synchronous_commit', 'full_page_writes')"
    query = f"SELECT string_agg(setting, ' ') FROM pg_settings WHERE name IN {names}"
    assert await fetch(server.url, query) == "on on on"


async def test_tcp_asks_for_the_password(server: EmbeddedPostgres) -> None:
    head, _, tail = server.url.partition("://postgres:")
    wrong = f"{head}://postgres:wrong@{tail.partition('@')[2]}"
    with pytest.raises(asyncpg.InvalidPasswordError):
        await fetch(wrong, "SELECT 1")


async def test_the_password_is_for_our_eyes_only(server: EmbeddedPostgres) -> None:
    assert (server.base / "password").stat().st_mode & 0o077 == 0


async def test_the_unix_socket_needs_no_password(server: EmbeddedPostgres) -> None:
    port = server.url.rpartition(":")[2].partition("/")[0]
    url = f"postgresql://postgres@/streamhub?host={server.socket_directory}&port={port}"
    assert await fetch(url, "SELECT 1") == 1


async def test_a_second_start_goes_on_with_the_same_data_on_the_same_port(server: EmbeddedPostgres) -> None:
    url = server.url
    await fetch(url, "CREATE TABLE stopped AS SELECT 42 AS n")
    server.stop()
    server.start()
    assert server.url == url
    assert await fetch(url, "SELECT n FROM stopped") == 42


async def test_a_crash_loses_nothing_that_was_committed(server: EmbeddedPostgres) -> None:
    await fetch(server.url, "CREATE TABLE killed AS SELECT generate_series(1, 10000) AS n")
    server.kill()
    server.start()
    assert await fetch(server.url, "SELECT count(*) FROM killed") == 10000


async def test_an_immediate_restart_is_a_crash_too(server: EmbeddedPostgres) -> None:
    await fetch(server.url, "CREATE TABLE restarted AS SELECT 42 AS n")
    server.restart("immediate")
    assert await fetch(server.url, "SELECT n FROM restarted") == 42


async def test_settings_are_passed_on(data_dir: Path) -> None:
    async with EmbeddedPostgres(data_dir, {"work_mem": "7MB"}) as server:
        assert await fetch(server.url, "SHOW work_mem") == "7MB"


async def test_another_port_is_taken_where_the_remembered_one_is_in_use(server: EmbeddedPostgres) -> None:
    url = server.url
    port = int(url.rpartition(":")[2].partition("/")[0])
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        server.start()
    assert server.url != url
    assert await fetch(server.url, "SELECT 1") == 1


def test_the_url_of_a_server_that_another_process_runs_is_found(
    data_dir: Path, other_process: subprocess.Popen[str]
) -> None:
    assert other_process.stdout is not None
    other_process.stdout.readline()
    url = url_of_running(data_dir)
    assert url is not None
    assert url.endswith("/streamhub")


def test_no_url_is_found_where_nothing_runs(fresh_dir: Path) -> None:
    assert url_of_running(fresh_dir) is None


def test_a_directory_that_a_live_process_uses_is_refused_and_the_process_named(
    data_dir: Path, other_process: subprocess.Popen[str]
) -> None:
    assert other_process.stdout is not None
    other_process.stdout.readline()
    with pytest.raises(UserError, match=rf"process {other_process.pid}\b.*--data-dir"):
        EmbeddedPostgres(data_dir).start()


def test_kill_9_of_our_process_ends_the_server(other_process: subprocess.Popen[str]) -> None:
    assert other_process.stdout is not None
    postmaster = int(other_process.stdout.readline())
    other_process.kill()
    assert is_gone(postmaster)


def test_a_start_right_after_kill_9_of_our_process_goes_on(
    data_dir: Path, other_process: subprocess.Popen[str]
) -> None:
    assert other_process.stdout is not None
    other_process.stdout.readline()
    other_process.kill()
    other_process.wait()
    server = EmbeddedPostgres(data_dir)
    server.start()
    assert server.pid is not None
    server.stop()


def test_a_server_that_a_dead_process_left_behind_is_shut_down_first(data_dir: Path) -> None:
    """As where there is no parent-death signal: the server outlived the streamhub that started it."""
    orphan = EmbeddedPostgres(data_dir)
    orphan.start()
    assert orphan._lock is not None
    os.close(orphan._lock)
    orphan._lock = None
    server = EmbeddedPostgres(data_dir)
    server.start()
    assert orphan.pid is None
    server.stop()


def test_a_pid_file_that_names_an_innocent_process_does_not_keep_us_from_starting(server: EmbeddedPostgres) -> None:
    server.kill()
    pid_file = server.data / "postmaster.pid"
    lines = pid_file.read_text().splitlines()
    pid_file.write_text("\n".join([str(os.getppid()), *lines[1:]]) + "\n")
    server.start()
    assert server.pid is not None


def test_a_first_start_that_was_cut_short_is_started_again(fresh_dir: Path) -> None:
    (fresh_dir / "postgresql" / "data.new").mkdir(parents=True)
    (fresh_dir / "postgresql" / "data.new" / "PG_VERSION").write_text("18\n")
    server = EmbeddedPostgres(fresh_dir)
    server.start()
    assert server.pid is not None
    server.stop()


async def test_a_lost_password_is_replaced(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.base / "password").unlink()
    server.start()
    assert await fetch(server.url, "SELECT 1") == 1


def test_a_cluster_of_another_version_is_refused(server: EmbeddedPostgres) -> None:
    server.stop()
    (server.data / "PG_VERSION").write_text("17\n")
    try:
        with pytest.raises(UserError, match=r"PostgreSQL 17.*STREAMHUB_DATA_DIR="):
            server.start()
    finally:
        (server.data / "PG_VERSION").write_text("18\n")


def test_what_postgres_complains_of_is_passed_on(data_dir: Path) -> None:
    with pytest.raises(UserError, match="no_such_setting"):
        EmbeddedPostgres(data_dir, {"no_such_setting": "1"}).start()


def test_a_directory_that_cannot_be_made_is_named(fresh_dir: Path) -> None:
    (fresh_dir / "file").touch()
    with pytest.raises(UserError, match=f"{fresh_dir}/file"):
        EmbeddedPostgres(fresh_dir / "file").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has directories that PostgreSQL's user may not enter")
def test_a_directory_closed_to_the_user_that_postgres_runs_as_is_named(fresh_dir: Path) -> None:
    closed = fresh_dir / "closed"
    closed.mkdir(mode=0o700)
    with pytest.raises(UserError, match=f"cannot enter {closed}"):
        EmbeddedPostgres(closed / "inner").start()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
async def test_binaries_out_of_reach_of_that_user_are_copied(fresh_dir: Path) -> None:
    server = EmbeddedPostgres(fresh_dir)
    closed = fresh_dir / "closed"
    closed.mkdir(mode=0o700)
    package = server.bin_dir.parent.parent
    for part in (f"{package.name}/{server.bin_dir.parent.name}", f"{package.name}.libs"):
        shutil.copytree(package.parent / part, closed / part)
    server.bin_dir = closed / package.name / server.bin_dir.parent.name / "bin"
    server.start()
    try:
        assert await fetch(server.url, "SELECT 1") == 1
        assert list(server.base.glob("server-*"))
    finally:
        server.stop()


def test_a_long_path_gets_its_socket_elsewhere(fresh_dir: Path) -> None:
    server = EmbeddedPostgres(fresh_dir / ("long" * 30))
    server.start()
    assert server.socket_directory.parent == Path("/tmp")
    server.stop()
    assert not server.socket_directory.exists()


def test_stop_can_be_called_twice_and_before_start(fresh_dir: Path) -> None:
    server = EmbeddedPostgres(fresh_dir)
    server.stop()
    server.start()
    server.stop()
    server.stop()
    assert server.pid is None


def test_ctrl_c_at_the_terminal_is_not_the_servers_to_answer(server: EmbeddedPostgres) -> None:
    assert server.pid is not None
    assert os.getpgid(server.pid) != os.getpgid(0)
