"""The members of a JSON object, or the elements of an array, with values that no decoder takes (a lone surrogate,
nesting without end).

PostgreSQL writes such text where a `json` column holds it. Reading the top level alone is enough to tell whose row it
is, so that the event can be sent as one that could not be rendered.
"""

import json
import re
from typing import Final

_STRING: Final = re.compile(r'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NEXT: Final = re.compile(r'["\[\]{},]')


def members(text: str) -> dict[str, str]:
    """The raw text of each member of a JSON object, in order. `text` is trusted to be JSON by its grammar.

    Raises ValueError where it is no object.
    """
    position = text.find("{") + 1
    if position == 0 or text[: position - 1].strip():
        raise ValueError("not a JSON object")
    found: dict[str, str] = {}
    while key := _STRING.search(text, position):
        start = text.index(":", key.end()) + 1
        end = _end_of_value(text, start)
        found[json.loads(key.group())] = text[start:end].strip()
        if text[end] == "}":
            break
        position = end + 1
    return found


def elements(text: str) -> list[str]:
    """The raw text of each element of a JSON array, in order. `text` is trusted to be JSON by its grammar.

    Raises ValueError where it is no array.
    """
    position = text.find("[") + 1
    if position == 0 or text[: position - 1].strip():
        raise ValueError("not a JSON array")
    found: list[str] = []
    while text[position:].strip(" \t\r\n")[:1] != "]":
        end = _end_of_value(text, position, "]")
        found.append(text[position:end].strip())
        if text[end] == "]":
            break
        position = end + 1
    return found


def _end_of_value(text: str, position: int, closing: str = "}") -> int:
    """The index of the `,` or of the bracket `closing` that ends the value which starts at `position`."""
    depth = 0
    while True:
        token = _NEXT.search(text, position)
        if token is None:
            raise ValueError("a JSON value without an end")
        character = token.group()
        if character == '"':
            string = _STRING.match(text, token.start())
            if string is None:
                raise ValueError("a JSON string without an end")
            position = string.end()
            continue
        if depth == 0 and character in (",", closing):
            return token.start()
        depth += {"[": 1, "{": 1, "]": -1, "}": -1}.get(character, 0)
        position = token.end()
