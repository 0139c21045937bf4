"""The parameters `resource_type_eq` and `resource_id_in`, of replays and broadcast alike."""

from typing import Final

from streamhub.core.names import wrong_with
from streamhub.web.parameters import Given, InvalidValueError, Parameter, short
from streamhub.web.problems import Fault

MOST_IDS: Final = 500


def _resource_type(text: str) -> str:
    wrong = wrong_with(text)
    if wrong:
        detail = f"resource_type_eq is {short(repr(text))}: it {wrong}; give one resource type, such as skus."
        raise InvalidValueError(("INVALID_FILTER", detail))
    return text


def _resource_ids(text: str) -> tuple[str, ...]:
    found = tuple(text.split(","))
    if len(found) > MOST_IDS:
        detail = f"resource_id_in has {len(found)} ids; at most {MOST_IDS} are allowed: ask in several requests."
        raise InvalidValueError(("TOO_MANY_RESOURCE_IDS", detail))
    problems = []
    for each in dict.fromkeys(found):
        wrong = wrong_with(each)
        if wrong:
            detail = f"resource_id_in holds {short(repr(each))}: it {wrong}; ids are separated by single commas."
            problems.append(("INVALID_RESOURCE_ID", detail))
    if problems:
        raise InvalidValueError(*problems)
    return found


RESOURCES: Final = (
    Parameter("resource_type_eq", _resource_type, ("INVALID_FILTER",), "events of this resource type alone", "skus"),
    Parameter(
        "resource_id_in",
        _resource_ids,
        ("TOO_MANY_RESOURCE_IDS", "INVALID_RESOURCE_ID", "MISSING_RESOURCE_TYPE"),
        f"events of these resources alone: ids of one resource type, separated by commas, at most {MOST_IDS}",
        "AYqPSwAqDW,BZrQTxBrEX",
    ),
)


def judge_resources(given: Given, faults: list[Fault]) -> None:
    """Adds a fault where there are ids without their type."""
    if "resource_id_in" in given.values and "resource_type_eq" not in given.values:
        detail = "resource_id_in needs resource_type_eq beside it: ids are ids of one type."
        faults.append(Fault("MISSING_RESOURCE_TYPE", detail, {"parameter": "resource_type_eq"}))
