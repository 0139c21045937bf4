"""What the names in a request (types, resources) may look like."""

import re
from typing import Final

from streamhub.core.control import is_reserved

LONGEST: Final = 255
_TYPE: Final = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_PATTERN: Final = re.compile(r"[A-Za-z0-9_*-]+(\.[A-Za-z0-9_*-]+)*")
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


def wrong_type(type_: str) -> str | None:
    """What is wrong with the type of an event that is published, and what would be right; as streamhub.publish judges
    it. None where nothing is."""
    if len(type_) > LONGEST or not _TYPE.fullmatch(type_):
        return (
            "letters, digits, _ and - in segments joined by dots are needed, at most 255 characters, such as "
            "query.received"
        )
    if is_reserved(type_):
        return "its last segment is the name of a control frame, choose another"
    return None


def wrong_pattern(pattern: str) -> str | None:
    """What is wrong with a pattern of types, as a predicate: what no type could match. None where nothing is."""
    problem = wrong_with(pattern)
    if problem is not None:
        return problem
    if not _PATTERN.fullmatch(pattern):
        return "is no type: letters, digits, _ and - in segments joined by dots, * for any text within one"
    if is_reserved(pattern):
        return "ends with the name of a control frame, which no type does"
    return None
