"""Numbers in JSON's form, ordered as exact decimals of any length and any exponent."""

import re
from decimal import MAX_EMAX, MIN_EMIN, Context, Decimal
from typing import Final

# Sign, exponent of the first digit, coefficient from 1 to under 10; a negative number has all three negative, so that
# numbers are ordered as these tuples are. The exponent stays apart: 1e999999999 is never written out.
Number = tuple[int, int | Decimal, Decimal]

_NUMBER: Final = re.compile(r"(-?)(0|[1-9][0-9]*+)(?:\.([0-9]++))?(?:[eE]([+-]?[0-9]++))?")
_ZERO: Final[Number] = (0, 0, Decimal(0))
_LONGEST_INT: Final = 18


def number(text: str) -> Number | None:
    """None where `text` is not of the form of a JSON number."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    sign, whole, fraction, power = match.groups("")
    digits = whole + fraction
    significant = digits.lstrip("0")
    if not significant:
        return _ZERO
    exponent = _sum(power or "0", len(whole) - 1 - (len(digits) - len(significant)))
    coefficient = Decimal(f"{sign}{significant[0]}.{significant[1:]}")
    return (-1, -exponent, coefficient) if sign else (1, exponent, coefficient)


def _sum(power: str, places: int) -> int | Decimal:
    if len(power) <= _LONGEST_INT:
        return int(power) + places
    # int() takes time in the square of the length, and refuses what has over 4,300 digits.
    exact = Context(prec=len(power) + 20, Emax=MAX_EMAX, Emin=MIN_EMIN)
    return exact.add(Decimal(power), Decimal(places))
