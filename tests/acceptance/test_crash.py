"""`make crash`, a short one: its plan is another one in each run. STREAMHUB_TEST_SEED repeats one."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.acceptance.conftest import ROOT

KILLS = "8"
EVERY = "1.5"  # seconds


def test_a_hub_that_is_killed_and_stopped_loses_reorders_and_repeats_nothing() -> None:
    seed = os.environ.get("STREAMHUB_TEST_SEED")
    done = subprocess.run(
        [
            sys.executable, "-m", "crash", "--kills", KILLS, "--every", EVERY,
            *(["--seed", seed] if seed is not None else []),
        ],
        cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=110, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
