"""The time from `streamhub demo` to the first event on the screen, installed and without data."""

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stage import Result, Stage, spread
from servers.ports import free_port

RUNS = 3


async def measure(stage: Stage) -> list[Result]:
    del stage  # the demo has its own servers
    seconds = []
    for _ in range(RUNS):
        directory = Path(tempfile.mkdtemp(prefix="streamhub-demo-"))
        directory.chmod(0o755)
        began = time.perf_counter()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "streamhub", "demo", "--for", "5", "--port", str(free_port()), "--data-dir", str(directory),  # noqa: E501
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        assert process.stdout is not None
        while line := await process.stdout.readline():
            if b".create" in line or b".update" in line:
                seconds.append(time.perf_counter() - began)
                break
        await process.stdout.read()
        if await process.wait() or not line:
            raise SystemExit("the demo failed")
        shutil.rmtree(directory, ignore_errors=True)
    return [Result("streamhub demo to the first event on the screen, s", spread(seconds, 1), "10")]
