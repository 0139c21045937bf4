"""Child processes that end with this process."""

import os
import sys
from collections.abc import Sequence
from typing import Final

# The kernel kills the program when the thread that started it ends, even while it is stopped by SIGSTOP.
_TIED: Final = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)
os.getppid() == int(sys.argv[1]) or sys.exit("the process that started it is gone")
os.execvp(sys.argv[2], sys.argv[2:])
"""


def tied(command: Sequence[str]) -> list[str]:
    """A command that runs `command` until the thread that starts it ends."""
    return [sys.executable, "-I", "-S", "-c", _TIED, str(os.getpid()), *command]
