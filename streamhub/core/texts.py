"""Texts that held bytes which mean nothing in their database's encoding, or which UTF-8 has no character for.

Each such byte is a lone surrogate, by which it is known: nothing else that comes from a database holds one.
"""

import re
from typing import Final, overload

_UNDECODED: Final = re.compile("[\ud800-\udfff]")


def is_text(text: str | None) -> bool:
    """Whether all of its bytes could be decoded."""
    return text is None or text.isascii() or _UNDECODED.search(text) is None


@overload
def readable(text: str) -> str: ...
@overload
def readable(text: None) -> None: ...
def readable(text: str | None) -> str | None:
    """With U+FFFD for each byte that could not be decoded."""
    return text if text is None or text.isascii() else _UNDECODED.sub("\ufffd", text)
