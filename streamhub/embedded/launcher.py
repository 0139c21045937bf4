"""Runs a PostgreSQL program as another user, and ends it with the process that started it.

Run as `python -I -S launcher.py UID GID PARENT program argument…`; UID -1 keeps the user. It is a program, not a
`preexec_fn`: Python code between fork and exec may hang in a process with threads. It imports nothing of streamhub, so
that it starts in milliseconds.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    uid, gid, parent = (int(argument) for argument in sys.argv[1:4])
    program = sys.argv[4:]
    prctl = getattr(ctypes.CDLL(None), "prctl", None)  # Linux has it, others do not
    if uid >= 0:
        os.setgroups([gid])
        os.setgid(gid)
        os.setuid(uid)
    os.umask(0o077)
    if prctl is not None:
        # After setuid, which clears it. SIGINT is PostgreSQL's fast shutdown.
        prctl(PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit("the process that started PostgreSQL is gone")
    try:
        os.execv(program[0], program)  # noqa: S606
    except OSError as error:
        sys.exit(f"cannot run {program[0]}: {error.strerror}")


if __name__ == "__main__":
    main()
