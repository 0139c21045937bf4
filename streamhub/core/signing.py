"""Signatures of webhooks (contract, section 9), made and verified.

A delivery has two kinds. `webhook-signature` is that of Standard Webhooks 1.0: over the id, the time and the body, so a
delivery that somebody recorded counts for a few minutes only. `X-ACP-Signature` is over the body alone.
"""

import binascii
import hashlib
import hmac
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

ACP_SIGNATURE: Final = "X-ACP-Signature"
ID: Final = "webhook-id"
TIMESTAMP: Final = "webhook-timestamp"
SIGNATURE: Final = "webhook-signature"

PREFIX: Final = "whsec_"
"""What every secret begins with; base64 of the key follows."""

TOLERANCE: Final = 300.0
"""Seconds that a delivery's time may lie before or after the receiver's."""

_VERSION: Final = "v1"
_LONGEST_TIMESTAMP: Final = 15  # digits


class InvalidSignature(ValueError):  # noqa: N818 - what it is, in two words
    """A delivery that is not from who has the secret, or not of now."""


def secret_of(key: bytes) -> str:
    """A secret as it is shown. Standard Webhooks asks for 24 to 64 random bytes."""
    return PREFIX + b64encode(key).decode()


@lru_cache(1_000)
def key_of(secret: str) -> bytes:
    """The key in a secret. Raises ValueError, which does not show the secret."""
    try:
        key = b64decode(secret.removeprefix(PREFIX), validate=True) if secret.startswith(PREFIX) else b""
    except (binascii.Error, ValueError):
        key = b""
    if not key:
        raise ValueError(f"the secret of a webhook is {PREFIX} and base64 behind it, as it was shown; this one is not")
    return key


def sign(body: bytes, id_: str, timestamp: int, secrets: Sequence[str]) -> dict[str, str]:
    """The four headers of a delivery. `timestamp`: seconds of the Unix epoch. `secrets`: all that are valid, the oldest
    first, which X-ACP-Signature keeps to; webhook-signature carries one for each. Raises ValueError."""
    signatures = [
        f"{_VERSION},{b64encode(_standard(body, id_, str(timestamp), key_of(each))).decode()}" for each in secrets
    ]
    return {
        ACP_SIGNATURE: _acp(body, secrets[0]),
        ID: id_,
        TIMESTAMP: str(timestamp),
        SIGNATURE: " ".join(signatures),
    }


def verify(
    body: bytes,
    headers: Mapping[str, str],
    secrets: Sequence[str],
    now: float,
    *,
    tolerance: float = TOLERANCE,
    requires_time: bool = True,
) -> None:
    """Raises InvalidSignature with the reason, ValueError for a secret that is none. `now` is in seconds of the Unix
    epoch; the names of headers may have any case. Signatures are compared in constant time.

    `requires_time=False` accepts a delivery with X-ACP-Signature alone. It has no time: who recorded it may send it
    again at any time.
    """
    keys = [key_of(secret) for secret in secrets]
    if not keys:
        raise ValueError("no secret was given to verify a webhook with")
    given = {name.lower(): value for name, value in headers.items()}
    if SIGNATURE in given or requires_time:
        _verify_standard(body, given, keys, now, tolerance)
    elif ACP_SIGNATURE.lower() not in given:
        raise InvalidSignature(f"the delivery has neither {SIGNATURE} nor {ACP_SIGNATURE}")
    elif not _is_among([given[ACP_SIGNATURE.lower()]], [_acp(body, secret).encode() for secret in secrets]):
        raise InvalidSignature(f"{ACP_SIGNATURE} is not this body's with any of the secrets")


def _verify_standard(
    body: bytes, given: Mapping[str, str], keys: Sequence[bytes], now: float, tolerance: float
) -> None:
    missing = [name for name in (ID, TIMESTAMP, SIGNATURE) if not given.get(name)]
    if missing:
        raise InvalidSignature(f"the delivery has no {', no '.join(missing)}")
    timestamp = given[TIMESTAMP]
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= _LONGEST_TIMESTAMP):
        raise InvalidSignature(f"{TIMESTAMP} is no number of seconds")
    late = now - int(timestamp)
    if abs(late) > tolerance:
        when = f"{late:.0f} s old" if late > 0 else f"{-late:.0f} s in the future"
        raise InvalidSignature(f"the delivery is {when}; up to {tolerance:.0f} s is right: compare the clocks")
    signatures = [
        value
        for version, _, value in (each.partition(",") for each in given[SIGNATURE].split(" "))
        if version == _VERSION
    ]
    if not _is_among(signatures, [b64encode(_standard(body, given[ID], timestamp, key)) for key in keys]):
        raise InvalidSignature(f"{SIGNATURE} is not this delivery's with any of the secrets")


def _standard(body: bytes, id_: str, timestamp: str, key: bytes) -> bytes:
    return hmac.digest(key, b"%b.%b.%b" % (_bytes(id_), timestamp.encode(), body), hashlib.sha256)


def _acp(body: bytes, secret: str) -> str:
    return hmac.digest(secret.encode(), body, hashlib.sha256).hex()


def _is_among(signatures: Sequence[str], right: Sequence[bytes]) -> bool:
    """Every pair is compared, whatever was found before."""
    found = [hmac.compare_digest(_bytes(each), one) for each in signatures for one in right]
    return any(found)


def _bytes(text: str) -> bytes:
    """Of a header that came, which may hold what is no character."""
    return text.encode("utf-8", "surrogatepass")
