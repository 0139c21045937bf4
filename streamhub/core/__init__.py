"""The rules of Streamhub as pure functions and values: no asyncio, sockets, clocks or randomness.

Time and chance come in as arguments, so every rule here can be tested as one.

The modules in which an event spends most of its time may also be there compiled, made from the same source
(compile_core.py). They are taken where they belong to exactly the source that is here, unless STREAMHUB_COMPILED is
off.
"""

import hashlib
import os
from pathlib import Path
from typing import Final

COMPILED_MODULES: Final = ("changes", "cutting", "drafts", "record_batch", "rendering", "rows")
SOURCE: Final = "source.sha256"
"""The file beside compiled modules that tells which source they were made from."""

_HERE: Final = Path(__file__).parent
_COMPILED: Final = _HERE / "compiled"


def digest_of_source() -> str:
    """Of the modules that are compiled, and of their C types."""
    digest = hashlib.sha256()
    for name in COMPILED_MODULES:
        for suffix in (".py", ".pxd"):
            digest.update((_HERE / f"{name}{suffix}").read_bytes())
    return digest.hexdigest()


def compiled_is_allowed() -> bool:
    return os.environ.get("STREAMHUB_COMPILED", "").strip().lower() not in {"0", "f", "false", "n", "no", "off"}


def _has_compiled() -> bool:
    try:
        return (_COMPILED / SOURCE).read_text(encoding="ascii") == digest_of_source()
    except OSError:
        return False


if compiled_is_allowed() and _has_compiled():
    __path__.insert(0, str(_COMPILED))
