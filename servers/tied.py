"""Processes that end with us."""

import os
import sys
from collections.abc import Sequence
from typing import Final

# Becomes the program, which the kernel kills when the thread that wanted it ends; SIGSTOP does not keep it alive.
_TIED: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or sys.exit("the process that wanted it is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """The command that runs this one for as long as the thread lives that starts it."""
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
