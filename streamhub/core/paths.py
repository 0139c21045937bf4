"""The paths that a published event carries in its data, which `path_prefix` compares with."""

from typing import Any, Final

import msgspec

from streamhub.core.view import View

_decode: Final = msgspec.json.Decoder().decode
_REFUSED: Final = (msgspec.DecodeError, UnicodeError, RecursionError)


def paths_in(event: View) -> tuple[str, ...]:
    """`data.path` and each `data.entries[].path`, as far as they are strings. A change has none."""
    raw = event.raw("data")
    try:
        data: Any = _decode(raw)
    except _REFUSED:
        return ()
    if not isinstance(data, dict):
        return ()
    entries = data.get("entries")
    holders = [data, *(entries if isinstance(entries, list) else ())]
    found = (each.get("path") for each in holders if isinstance(each, dict))
    return tuple(path for path in found if isinstance(path, str))
