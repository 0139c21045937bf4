"""Texts that hold bytes which mean nothing in their database's encoding, or which UTF-8 has no character for.

A database without an encoding (SQL_ASCII) takes any bytes, and so do the gaps of others (0x81 in WIN1252). Each such
byte becomes a lone surrogate, by which it is known further on: nothing else that comes from a database holds one.
"""

import codecs
import re
from typing import Final

_CODECS: Final = {"SQL_ASCII": "utf-8", "KOI8R": "koi8-r", "KOI8U": "koi8-u"}


def codec_of(encoding: str) -> str:
    """Python's name of an encoding of PostgreSQL; ASCII for one that Python has not."""
    name = _CODECS.get(encoding) or re.sub(r"^WIN(?=\d)", "cp", encoding)
    try:
        return codecs.lookup(name).name
    except LookupError:
        return "ascii"


def decoded(data: bytes | None, codec: str) -> str | None:
    return None if data is None else data.decode(codec, "surrogateescape")
