"""`make crash`, a short one: its plan is another one in each run. STREAMHUB_TEST_SEED repeats one."""

from __future__ import annotations

import os
import subprocess
import sys

from servers.kafka import Broker
from tests.acceptance.conftest import ROOT

KILLS = "4"
EVERY = "1"  # seconds


def crash(engine: str) -> subprocess.CompletedProcess[str]:
    seed = os.environ.get("STREAMHUB_TEST_SEED")
    return subprocess.run(
        [
            sys.executable, "-m", "crash", "--kills", KILLS, "--every", EVERY, "--engine", engine,
            *(["--seed", seed] if seed is not None else []),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip


def test_a_hub_that_is_killed_and_stopped_loses_reorders_and_repeats_nothing() -> None:
    done = crash("postgres")
    assert done.returncode == 0, done.stdout + done.stderr


def test_nor_does_one_whose_events_go_by_way_of_kafka(broker: Broker) -> None:
    """The broker of the tests tells whether there can be one here; the run has its own."""
    done = crash("kafka")
    assert done.returncode == 0, done.stdout + done.stderr
