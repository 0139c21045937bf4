"""What is compiled is optional: its absence is a sentence, and a variable leaves it out."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, env={"PYTHONPATH": str(ROOT), **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("environment", "reason"),
    [({"PATH": "/nowhere"}, "there is no C compiler"), ({"STREAMHUB_COMPILED": "off"}, "STREAMHUB_COMPILED is off")],
)
def test_what_is_missing_is_told_in_one_line(environment: dict[str, str], reason: str) -> None:
    done = python("compile_core.py", **environment)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
    assert done.stderr.startswith(f"The core is not compiled, because {reason}")


def test_what_is_compiled_is_left_where_a_variable_says_so() -> None:
    told = "from streamhub.core import rendering, rows; print(rendering.__file__, rows.__file__)"
    done = python("-c", told, STREAMHUB_COMPILED="off")
    assert done.stdout.split() == [str(ROOT / "streamhub/core" / name) for name in ("rendering.py", "rows.py")]
