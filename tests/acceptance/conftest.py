"""Streamhub as a user runs it: its commands in processes of their own, on a directory and a port of this test's."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from servers.clusters import cluster_directory
from servers.directories import data_directory
from servers.ports import free_port

STREAMHUB = [sys.executable, "-m", "streamhub"]
ROOT = Path(__file__).parents[2]


class Running:
    """A command under way; what it prints is kept."""

    def __init__(self, *arguments: str, environment: dict[str, str], program: Sequence[str] = STREAMHUB) -> None:
        self.process = subprocess.Popen(
            [*program, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
        )
        self.output = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line

    def wait_for(self, pattern: str, within: float = 20.0) -> re.Match[str]:
        give_up = time.monotonic() + within
        while time.monotonic() < give_up:
            found = re.search(pattern, self.output, re.MULTILINE)
            if found is not None:
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"{pattern!r} did not appear within {within} s in:\n{self.output}")

    def end(self, number: int, within: float = 20.0) -> int:
        self.process.send_signal(number)
        return self.exit_code(within)

    def exit_code(self, within: float) -> int:
        code = self.process.wait(within)
        self._reader.join(5)
        return code


@pytest.fixture
def data_dir(request: pytest.FixtureRequest) -> Iterator[Path]:
    """With a PostgreSQL in it that has nothing of the hub yet; empty for a test marked `from_nothing`.

    Not pytest's: its directories are closed to the user that PostgreSQL runs as where we are root.
    """
    path = data_directory() if request.node.get_closest_marker("from_nothing") else cluster_directory()
    yield path
    shutil.rmtree(path)


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def environment(data_dir: Path, port: int) -> dict[str, str]:
    """Ours without settings, but for where and on which port."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("STREAMHUB_")}
    return {**clean, "STREAMHUB_DATA_DIR": str(data_dir), "STREAMHUB_PORT": str(port), "PYTHONPATH": str(ROOT)}


@pytest.fixture
def start(environment: dict[str, str], data_dir: Path) -> Iterator[Callable[..., Running]]:
    """Start a command in the background; what still runs at the end of the test is killed."""
    started: list[Running] = []

    def run(*arguments: str) -> Running:
        started.append(Running(*arguments, environment=environment))
        return started[-1]

    yield run
    for each in started:
        each.process.kill()
        each.process.wait()
    assert none_left(data_dir), processes(data_dir)


@pytest.fixture
def streamhub(environment: dict[str, str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command to its end."""

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*STREAMHUB, *arguments], env=environment, capture_output=True, text=True, timeout=60, check=False
        )

    return run


@pytest.fixture
def bash(environment: dict[str, str]) -> Callable[..., str]:
    """What a line prints that a user pastes into a shell."""

    def run(line: str, within: float = 30.0) -> str:
        done = subprocess.run(
            ["bash", "-c", line], env=environment, capture_output=True, text=True, timeout=within, check=False
        )
        return done.stdout

    return run


def processes(data_dir: Path) -> list[str]:
    """The command lines that name this directory."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                line = entry.joinpath("cmdline").read_bytes()
            except OSError:
                continue
            if os.fsencode(data_dir) in line:
                found.append(line.replace(b"\0", b" ").decode(errors="replace"))
    return found


def none_left(data_dir: Path, within: float = 10.0) -> bool:
    give_up = time.monotonic() + within
    while time.monotonic() < give_up:
        if not processes(data_dir):
            return True
        time.sleep(0.05)
    return False
