"""What the names in a request (types, resources) may look like."""

import re
from typing import Final

LONGEST: Final = 255
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


def wrong_with(name: str) -> str | None:
    """What is wrong with a name, as a predicate (`is empty`); None where nothing is."""
    if not name:
        return "is empty"
    if len(name) > LONGEST:
        return f"has {len(name)} characters, at most {LONGEST} are allowed"
    if _CONTROL.search(name):
        return "holds a control character"
    if name != name.strip():
        return "begins or ends with a space"
    return None
