"""The text of an API key: `sh_ak_`, an id of 12 characters, `_`, a secret of 43 characters.

The id is no secret: a key is looked up by it, and lists show it. The secret has 256 bits, so a plain SHA-256 of the key
cannot be reversed by guessing, and no slow hash is needed.
"""

import hashlib
import hmac
import re
import secrets
import string
from typing import Final, NamedTuple

PREFIX: Final = "sh_ak_"
SHOWN: Final = f"{PREFIX}…"
_ALPHABET: Final = string.digits + string.ascii_letters
_ID_LENGTH: Final = 12
_SECRET_LENGTH: Final = 43  # of 62 characters each: a little over 256 bits
_KEY: Final = re.compile(rf"{PREFIX}([0-9A-Za-z]{{{_ID_LENGTH}}})_[0-9A-Za-z]{{{_SECRET_LENGTH}}}")
_ANY: Final = re.compile(rf"{PREFIX}\w*…?", re.ASCII)


class Presented(NamedTuple):
    """A key as a request shows it: the id to look for, and the SHA-256 of the whole text."""

    id: str
    hash: bytes

    def is_key_of(self, stored_hash: bytes) -> bool:
        """Compared in constant time."""
        return hmac.compare_digest(self.hash, stored_hash)


def new() -> str:
    """A random key: no two are the same."""
    return f"{PREFIX}{_random(_ID_LENGTH)}_{_random(_SECRET_LENGTH)}"


def read(text: str) -> Presented | None:
    """None where it is not of a key's form."""
    match = _KEY.fullmatch(text)
    return None if match is None else Presented(match[1], hashlib.sha256(text.encode()).digest())


def masked(text: str) -> str:
    """The text without any API key, and without what looks like a part of one."""
    return _ANY.sub(SHOWN, text) if PREFIX in text else text


def _random(length: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(length))
