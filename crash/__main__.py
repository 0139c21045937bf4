"""Runs the crash test, prints a report, and keeps the directory if there are findings."""

import argparse
import logging
import random
import shutil
import sys
import tempfile
from pathlib import Path

import uvloop

from crash import report
from crash.faults import plan
from crash.run import Run
from servers.kafka import NoBrokerError
from streamhub.errors import UserError


def main() -> int:
    arguments = argparse.ArgumentParser(prog="python -m crash", description=__doc__)
    arguments.add_argument("--seed", type=int, help="repeats the faults of an earlier run; default: random")
    arguments.add_argument("--kills", type=int, default=100, help="number of kills, stops and resets (100)")
    arguments.add_argument("--every", type=float, default=3.0, help="average seconds between two of them (3)")
    arguments.add_argument(
        "--engine", choices=["postgres", "kafka"], default="postgres", help="what the gateways follow (postgres)"
    )
    arguments.add_argument("--keep", action="store_true", help="always keep the directory")
    given = arguments.parse_args()
    seed = random.randrange(2**32) if given.seed is None else given.seed
    print(f"seed {seed}, engine {given.engine}, {given.kills} faults", flush=True)
    kafka = given.engine == "kafka"
    directory = Path(tempfile.mkdtemp(prefix="streamhub-crash-"))
    directory.chmod(0o755)  # as root, PostgreSQL runs as another user
    logging.basicConfig(
        filename=directory / "timeline.log", level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    kept = True
    try:
        faults = plan(seed, given.kills, given.every, broker=kafka)
        outcome = uvloop.run(Run(directory, seed, faults, kafka=kafka).run())
        for line in report.lines(outcome):
            print(line)
        (directory / "findings.txt").write_text("".join(f"{finding}\n" for finding in outcome.findings))
        kept = bool(outcome.findings) or given.keep
    except (NoBrokerError, UserError) as error:
        kept = False
        print(f"crash: {error}", file=sys.stderr)
        return 2
    finally:
        if kept:
            print(f"logs, the consumers' files and the database are in {directory}; --seed {seed} repeats the faults")
        else:
            shutil.rmtree(directory, ignore_errors=True)
    return 1 if outcome.findings else 0


if __name__ == "__main__":
    sys.exit(main())
