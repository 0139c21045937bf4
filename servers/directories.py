"""Data directories of test servers."""

import os
import shutil
import tempfile
from pathlib import Path
from typing import Final

MEMORY: Final = Path("/dev/shm")  # noqa: S108
ENOUGH: Final = 4 * 1024**3  # bytes of free memory; a test run's servers use 1 to 2 GiB


def data_directory(prefix: str = "streamhub-test-") -> Path:
    """A new directory that every user may enter; the caller removes it.

    It is in memory where there is enough. Each test creates and drops a database, and ext4 searches all files deleted
    in the last five seconds when it creates one: that took most of a test run's processor time.
    """
    directory = Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if _has_room() else None))
    directory.chmod(0o755)
    return directory


def _has_room() -> bool:
    if not os.access(MEMORY, os.W_OK) or shutil.disk_usage(MEMORY).free < ENOUGH:
        return False
    return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > ENOUGH
