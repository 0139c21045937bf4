"""For who receives webhooks: whether a delivery is from the hub."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from streamhub.core import signing
from streamhub.core.signing import TOLERANCE


def verify_webhook(
    body: bytes,
    headers: Mapping[str, str],
    secrets: str | Iterable[str],
    *,
    tolerance: float = TOLERANCE,
    requires_time: bool = True,
) -> dict[str, Any]:
    """The object of a delivery, `id`, `type`, `created_at` and `data`, once its signature is found right. `body`: the
    bytes as they came. `secrets`: the endpoint's secret, or several while you replace one by another. The same delivery
    may come twice: its `id` tells.

    Raises InvalidSignature where it is not from the hub or over `tolerance` seconds old; answer that with 400.
    `requires_time=False` also accepts what has X-ACP-Signature alone, which may be a recorded delivery of any age.
    Raises ValueError for a secret that does not begin with `whsec_`, TypeError for a body that is text or an object.
    """
    try:
        memoryview(body)
    except TypeError:
        detail = f"body is {type(body).__name__}: give the bytes as they came; what was decoded may have other ones"
        raise TypeError(detail) from None
    # None: a variable of the environment that is not set, for one.
    valid = [secrets] if isinstance(secrets, str) else list(secrets or ())
    signing.verify(body, headers, valid, time.time(), tolerance=tolerance, requires_time=requires_time)
    found: dict[str, Any] = orjson.loads(body)
    return found
