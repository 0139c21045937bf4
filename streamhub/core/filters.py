"""Field filters: `<path>_<predicate>=<value>`, parsed to conditions and compiled to closures over a View.

PREDICATES is the one list. A filter sees the event as it was published, so never a value that was left out of it.
"""

import difflib
import operator
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from streamhub.core.decimals import number
from streamhub.core.view import View

MOST_FILTERS: Final = 20
MOST_VALUES: Final = 500
LONGEST_PATH: Final = 1_024
MOST_NAMES: Final = 32
ROOTS: Final = ("resource", "delta", "who", "data")

_LONGEST_SHOWN: Final = 64

Operand = str | bool | frozenset[str]
Test = Callable[[View], bool]


class Condition(NamedTuple):
    """One filter. `operand` is what the predicate compares with: a text, several, or a boolean."""

    path: str
    predicate: str
    operand: Operand


class FilterProblem(NamedTuple):
    """What is wrong with one parameter. `place` is its index among the pairs that were parsed; `code` one of
    INVALID_FILTER, TOO_MANY_FILTERS, REPEATED_PARAMETER and UNKNOWN_PARAMETER; `detail` a sentence."""

    place: int
    code: str
    parameter: str
    detail: str


class FilterProblems(ValueError):  # noqa: N818 - it carries several
    """`problems` are in the order of the pairs."""

    def __init__(self, problems: Sequence[FilterProblem]) -> None:
        self.problems = tuple(problems)
        super().__init__(" ".join(problem.detail for problem in problems))


class Filters:
    """Conditions that must all hold. Without any, every event matches. Equal to others of the same conditions."""

    __slots__ = ("_tests", "conditions", "given")

    def __init__(self, conditions: Iterable[Condition] = (), given: Mapping[str, str] | None = None) -> None:
        """`given`: parameter → value, as they were asked for."""
        self.conditions = tuple(dict.fromkeys(conditions))
        self.given = dict(given or {})
        self._tests = tuple(compiled(each) for each in self.conditions)

    def matches(self, event: View) -> bool:
        for test in self._tests:  # noqa: SIM110 - a generator costs more than the tests
            if not test(event):
                return False
        return True

    def with_resources(self, resource_type: str | None, resource_ids: Iterable[str] | None) -> "Filters":
        """These and, where given, `resource_type_eq` and `resource_id_in`, which then share an index too."""
        more = []
        if resource_type is not None:
            more.append(Condition("resource_type", "eq", resource_type))
        if resource_ids is not None:
            more.append(Condition("resource_id", "in", frozenset(resource_ids)))
        return Filters((*self.conditions, *more), self.given)

    def __bool__(self) -> bool:
        return bool(self.conditions)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Filters) and frozenset(self.conditions) == frozenset(other.conditions)

    def __hash__(self) -> int:
        return hash(frozenset(self.conditions))


def is_filter(name: str) -> bool:
    """Whether a parameter of this name is a field filter, right or wrong."""
    return name.startswith(_BEGINNINGS)


def parse(pairs: Sequence[tuple[str, str]]) -> Filters:
    """Raises FilterProblems with everything that is wrong with the (parameter, value) pairs."""
    problems: list[FilterProblem] = []
    conditions: list[Condition] = []
    given: dict[str, str] = {}
    for place, (name, text) in enumerate(pairs):
        if name in given:
            detail = f"{_shown(name)} was given more than once; give it once."
            problems.append(FilterProblem(place, "REPEATED_PARAMETER", name, detail))
            continue
        given[name] = text
        if len(given) == MOST_FILTERS + 1:
            most = len({name for name, _ in pairs})
            detail = f"There are {most} filters; at most {MOST_FILTERS} are allowed."
            problems.append(FilterProblem(place, "TOO_MANY_FILTERS", name, detail))
        try:
            conditions.append(_condition(name, text))
        except _WrongError as error:
            problems.append(FilterProblem(place, error.code, name, error.detail))
    if problems:
        raise FilterProblems(problems)
    return Filters(conditions, given)


class _WrongError(Exception):
    def __init__(self, detail: str, code: str = "INVALID_FILTER") -> None:
        self.code = code
        self.detail = detail


def _condition(name: str, text: str) -> Condition:
    if not is_filter(name):
        raise _WrongError(
            f"There is no parameter {_shown(name)} here; a filter begins with {_either(_BEGINNINGS)}.",
            "UNKNOWN_PARAMETER",
        )
    predicate = next((each for each in _LONGEST_FIRST if name.endswith("_" + each)), None)
    if predicate is None:
        raise _WrongError(_no_predicate(name))
    path = name[: -len(predicate) - 1]
    names = path.partition(".")[2]
    if not names:
        raise _WrongError(f"{_shown(name)} names no field; give one, such as resource.status_{predicate}.")
    if len(path) > LONGEST_PATH:
        raise _WrongError(f"The path of {_shown(name)} has {len(path)} characters; at most {LONGEST_PATH} are allowed.")
    if names.count(".") >= MOST_NAMES:
        raise _WrongError(
            f"The path of {_shown(name)} has {names.count('.') + 1} names; at most {MOST_NAMES} are allowed."
        )
    if predicate == "changed" and not path.startswith("delta."):
        raise _WrongError(
            f"{_shown(name)} asks whether something changed; give delta.<column>_changed, such as delta.price_changed."
        )
    return Condition(path, predicate, PREDICATES[predicate].operand(name, text))


def _no_predicate(name: str) -> str:
    words = name.split("_")
    tails = ["_".join(words[-count:]) for count in (1, 2) if len(words) > count]
    near = [
        (difflib.SequenceMatcher(None, tail[:_LONGEST_SHOWN].lower(), each).ratio(), len(each), each, tail)
        for tail in tails
        for each in PREDICATES
    ]
    if near:
        closeness, _, nearest, tail = max(near)
        if closeness >= 0.5:
            return f"{_shown(name)} ends with no predicate: {_shown(tail)} is none; did you mean {nearest}?"
    return f"{_shown(name)} ends with no predicate; give one of _{', _'.join(PREDICATES)}."


def _any_text(_name: str, text: str) -> str:
    return text


def _text(name: str, text: str) -> str:
    if not text:
        raise _WrongError(f"{_shown(name)} has an empty value; give one, or ask with eq or not_eq for the empty text.")
    return text


def _texts(name: str, text: str) -> frozenset[str]:
    count = _text(name, text).count(",") + 1
    if count > MOST_VALUES:
        raise _WrongError(f"{_shown(name)} has {count} values; at most {MOST_VALUES} are allowed.")
    return frozenset(text.split(","))


def _boolean(name: str, text: str) -> bool:
    if text not in ("true", "false"):
        raise _WrongError(f"{_shown(name)} is {_shown(text)}; give true or false.")
    return text == "true"


def compiled(condition: Condition) -> Test:
    """What the condition says, as a function of an event."""
    return PREDICATES[condition.predicate].test(condition.path, condition.operand)


def _eq(path: str, operand: Operand) -> Test:
    return lambda event: event.at(path).text == operand


def _not_eq(path: str, operand: Operand) -> Test:
    return lambda event: event.at(path).text != operand


def _in(path: str, operand: Operand) -> Test:
    assert isinstance(operand, frozenset)
    return lambda event: event.at(path).text in operand


def _not_in(path: str, operand: Operand) -> Test:
    assert isinstance(operand, frozenset)
    return lambda event: event.at(path).text not in operand


def _ordered(holds: Callable[[Any, Any], bool]) -> Callable[[str, Operand], Test]:
    def compile_(path: str, operand: Operand) -> Test:
        assert isinstance(operand, str)
        bound = number(operand)

        def test(event: View) -> bool:
            value = event.at(path)
            if value.text is None:
                return False
            if bound is not None and value.number is not None:
                return holds(value.number, bound)
            return holds(value.text, operand)

        return test

    return compile_


def _start(path: str, operand: Operand) -> Test:
    assert isinstance(operand, str)

    def test(event: View) -> bool:
        value = event.at(path)
        return value.is_string and value.text is not None and value.text.startswith(operand)

    return test


def _null(path: str, operand: Operand) -> Test:
    return lambda event: event.at(path).is_there is not operand


def _present(path: str, operand: Operand) -> Test:
    return lambda event: event.at(path).is_there is operand


def _changed(path: str, operand: Operand) -> Test:
    column = path.partition(".")[2]
    return lambda event: event.in_delta(column) is operand


class Predicate(NamedTuple):
    """`operand` reads the value of a parameter; `test` compiles it; `means` is for the reference."""

    operand: Callable[[str, str], Operand]
    test: Callable[[str, Operand], Test]
    means: str


PREDICATES: Final[Mapping[str, Predicate]] = {
    "eq": Predicate(_any_text, _eq, "is the text; a number or boolean as it is spelled in the event"),
    "not_eq": Predicate(_any_text, _not_eq, "is not the text, or is null or absent"),
    "in": Predicate(_texts, _in, f"is one of the texts, separated by commas, at most {MOST_VALUES}"),
    "not_in": Predicate(_texts, _not_in, "is none of the texts, or is null or absent"),
    "lt": Predicate(_text, _ordered(operator.lt), "is less: as numbers where both are, else as text"),
    "lteq": Predicate(_text, _ordered(operator.le), "is less or equal"),
    "gt": Predicate(_text, _ordered(operator.gt), "is greater"),
    "gteq": Predicate(_text, _ordered(operator.ge), "is greater or equal"),
    "start": Predicate(_text, _start, "is a string that begins with the text"),
    "null": Predicate(_boolean, _null, "`true`: is null or absent; `false`: is there and not null"),
    "present": Predicate(_boolean, _present, "`true`: is there and not null; `false`: is null or absent"),
    "changed": Predicate(_boolean, _changed, "`true`: the column is in the delta (path `delta.<column>` alone)"),
}

_BEGINNINGS: Final = tuple(root + "." for root in ROOTS)
_LONGEST_FIRST: Final = tuple(sorted(PREDICATES, key=len, reverse=True))


def _either(texts: Sequence[str]) -> str:
    return f"{', '.join(texts[:-1])} or {texts[-1]}"


def _shown(text: str) -> str:
    return repr(text if len(text) <= _LONGEST_SHOWN else text[:_LONGEST_SHOWN] + "…")
