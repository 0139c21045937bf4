"""What an endpoint may be: `read` judges a document of the API or of the command, and finds every fault of it; `of_row`
judges a row, which may have been written in SQL, by the same judges."""

import ipaddress
import json
import re
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import asyncpg
import orjson

from streamhub.core import filters, signing
from streamhub.core.filters import FilterProblems, Filters
from streamhub.core.names import wrong_pattern, wrong_with
from streamhub.core.type_patterns import MOST_PATTERNS, TypePatterns
from streamhub.webhooks.addresses import Addresses, RefusedAddressError

LONGEST_URL: Final = 2_048
LONGEST_TEXT: Final = 1_024
LONGEST_PREFIX: Final = 1_024
MOST_IN_FLIGHT: Final = 100
MOST_RATE: Final = 1_000_000
MOST_HEADERS: Final = 10
LONGEST_HEADER: Final = 1_024
MOST_OLD_SECRETS: Final = 10  # in a row: each valid one signs every attempt
MOST_RESOURCE_IDS: Final = 500
LONGEST_HOST: Final = 253
LONGEST_REASON: Final = 300
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_LABEL: Final = re.compile(r"[A-Za-z0-9_-]{1,63}")
_NUMBER: Final = re.compile(r"[0-9]+|0[xX][0-9A-Fa-f]*")
_EMAIL: Final = re.compile(r"[^\s@,;:<>\"()]{1,64}@[A-Za-z0-9.-]{1,255}")
# Ours, what HTTP decides, and what concerns one connection alone.
_RESERVED: Final = frozenset((
    "host", "content-length", "content-type", "content-encoding", "transfer-encoding", "connection", "keep-alive",
    "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer", "upgrade", "expect",
    "user-agent", "x-acp-signature", "accept-encoding",
))  # fmt: skip


class Wrong(NamedTuple):
    """`pointer` is RFC 6901, into the document; `detail` a sentence."""

    pointer: str
    detail: str


class InvalidEndpoint(ValueError):  # noqa: N818 - the contract's word for it
    """`wrong` are all faults of a document, in its order."""

    def __init__(self, wrong: list[Wrong]) -> None:
        self.wrong = wrong
        super().__init__(" ".join(each.detail for each in wrong))


class Choice(NamedTuple):
    """Which events an endpoint gets: `filters` with `resource_type_eq` and `resource_id_in` among them."""

    types: TypePatterns | None
    filters: Filters
    path_prefix: str | None


_Faults = list[tuple[str, str]]  # the member below, "" for the value itself, and what is wrong


def _url(value: Any, wrong: _Faults, addresses: Addresses | None) -> None:
    example = "give an https URL such as https://shop.example.com/hooks"
    if not isinstance(value, str) or not value:
        wrong.append(("", f"url is {_shown(value)}: {example}."))
        return
    if not value.isprintable() or " " in value:
        what = "a space" if " " in value else "a character that cannot be printed"
        wrong.append(("", f"url is {_shown_url(value)}: it has {what}; {example}."))
        return
    if not value.isascii():
        wrong.append(("", "url has a character that is not ASCII: write the host as xn--…, and others as %XX."))
        return
    if len(value) > LONGEST_URL:
        wrong.append(("", f"url has {len(value)} characters; at most {LONGEST_URL} are allowed."))
        return
    problem = url_problem(value, addresses)
    if problem is not None:
        wrong.append(("", f"url is {_shown_url(value)}: {problem}; {example}."))


def url_problem(url: str, addresses: Addresses | None) -> str | None:
    """Why nothing is delivered to this URL; None where something may be. `addresses`: which may be dialled; None: that
    is not to be judged."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return "it is no URL"
    if parts.scheme not in ("https", "http"):
        return "its scheme is not https"
    if not parts.hostname:
        return "it names no host"
    if "@" in parts.netloc:
        return "credentials in a URL are not sent, use headers"
    if parts.fragment:
        return "a fragment is not sent"
    if port == 0:
        return "nothing answers at port 0"
    if not _is_host(parts.netloc, parts.hostname):
        return "its host is neither a name nor an address"
    if parts.scheme == "http" and not (_is_development(addresses) and parts.hostname in LOOPBACK):
        return "http is for loopback in development alone"
    if addresses is not None:
        try:
            addresses.check_host(parts.hostname)
        except RefusedAddressError as error:
            return str(error)
    if "[" not in parts.netloc and _ends_in_number(parts.hostname) and not _is_ipv4(parts.hostname):
        return "its host ends in a number, so it is an address, which four numbers joined by dots would be"
    return None


def _is_development(addresses: Addresses | None) -> bool:
    return addresses is None or addresses.development


def _is_host(netloc: str, host: str) -> bool:
    if "[" in netloc:
        try:
            return ipaddress.IPv6Address(host).scope_id is None
        except ValueError:
            return False
    labels = host.removesuffix(".").split(".")
    return len(host) <= LONGEST_HOST and all(_LABEL.fullmatch(each) for each in labels)


def _ends_in_number(host: str) -> bool:
    """As the URL standard has it: what ends so is an IPv4 address, or nothing. No name of the DNS does."""
    return _NUMBER.fullmatch(host.removesuffix(".").rpartition(".")[2]) is not None


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _events(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
    if not isinstance(value, list) or not value:
        wrong.append(("", f'events is {_shown(value)}: give a list of types, such as ["skus.*"] or ["*"].'))
    elif len(value) > MOST_PATTERNS:
        wrong.append(("", f"events has {len(value)} types; at most {MOST_PATTERNS} are allowed."))
    else:
        for n, each in enumerate(value):
            problem = "is no string" if not isinstance(each, str) else wrong_pattern(each)
            if isinstance(each, str) and "," in each:
                problem = "holds a comma, each type is an entry of its own"
            if problem is not None:
                wrong.append((f"/{n}", f"events has {_shown(each)}, which {problem}: give types such as skus.*."))


def _filters(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
    if not isinstance(value, dict):
        wrong.append(("", f'filters is {_shown(value)}: give an object such as {{"resource.status_eq": "paid"}}.'))
        return
    strings = {name: text for name, text in value.items() if isinstance(text, str)}
    for name in value:
        if name not in strings:
            wrong.append((_member(name), f"The filter {name[:64]!r} is {_shown(value[name])}: give a string."))
        elif "\0" in name or "\0" in strings[name]:
            wrong.append((_member(name), f"The filter {name[:64]!r} holds a NUL character, which no event has."))
            del strings[name]
    for name, judge in (("resource_type_eq", wrong_with), ("resource_id_in", _ids), ("path_prefix", _prefix)):
        problem = judge(strings[name]) if name in strings else None
        if problem is not None:
            wrong.append((_member(name), f"{name} is {_shown(strings[name])}, which {problem}."))
    if "resource_id_in" in value and "resource_type_eq" not in value:
        wrong.append((_member("resource_id_in"), "resource_id_in needs resource_type_eq: ids are ids of one type."))
    fields = [(name, text) for name, text in strings.items() if name not in _PLAIN]
    try:
        filters.parse(fields)
    except FilterProblems as error:
        wrong.extend((_member(problem.parameter), problem.detail) for problem in error.problems)


_PLAIN: Final = ("resource_type_eq", "resource_id_in", "path_prefix")


def _ids(text: str) -> str | None:
    found = text.split(",")
    if len(found) > MOST_RESOURCE_IDS:
        return f"has {len(found)} ids, at most {MOST_RESOURCE_IDS} are allowed"
    problems = (wrong_with(each) for each in found)
    problem = next((each for each in problems if each is not None), None)
    return None if problem is None else f"holds an id that {problem}"


def _prefix(text: str) -> str | None:
    return None if 0 < len(text) <= LONGEST_PREFIX else f"has {len(text)} characters: 1 to {LONGEST_PREFIX} are right"


def _order(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
    if value not in ("none", "resource"):
        wrong.append(("", f"order is {_shown(value)}: give none or resource."))


def _whole(name: str, most: int, *, optional: bool = False) -> "Judge":
    def judge(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
        if value is None and optional:
            return
        if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
            wrong.append(("", f"{name} is {_shown(value)}: give a whole number from 1 to {most}."))

    return judge


def _headers(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
    if not isinstance(value, dict):
        wrong.append(("", f'headers is {_shown(value)}: give an object such as {{"X-Shop": "42"}}.'))
        return
    if len({name.lower() for name in value}) != len(value) or len(value) > MOST_HEADERS:
        wrong.append(("", f"headers has {len(value)} names: at most {MOST_HEADERS} are allowed, each once."))
        return
    for name, text in value.items():
        problem = None
        if not _TOKEN.fullmatch(name):
            problem = "is no name of a header"
        elif name.lower() in _RESERVED or name.lower().startswith("webhook-"):
            problem = "is not for an endpoint to set"
        elif not isinstance(text, str) or len(text) > LONGEST_HEADER or not _VALUE.fullmatch(text):
            problem = f"has a value that is not 1 to {LONGEST_HEADER} printable ASCII characters"
        if problem is not None:
            wrong.append((_member(name), f"The header {name[:64]!r} {problem}."))


def _boolean(name: str) -> "Judge":
    def judge(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
        if not isinstance(value, bool):
            wrong.append(("", f"{name} is {_shown(value)}: give true or false."))

    return judge


def _description(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
    if value is not None and (not isinstance(value, str) or len(value) > LONGEST_TEXT or "\0" in value):
        wrong.append(("", f"description is {_shown(value)}: give a text of at most {LONGEST_TEXT} characters."))


def _email(value: Any, wrong: _Faults, _addresses: Addresses | None) -> None:
    if value is not None and (not isinstance(value, str) or not value.isascii() or not _EMAIL.fullmatch(value)):
        wrong.append(("", f"owner_email is {_shown(value)}: give one address, such as owner@example.com."))


Judge = Callable[[Any, _Faults, Addresses | None], None]
FIELDS: Final[Mapping[str, Judge]] = {
    "url": _url,
    "events": _events,
    "filters": _filters,
    "order": _order,
    "max_in_flight": _whole("max_in_flight", MOST_IN_FLIGHT),
    "rate": _whole("rate", MOST_RATE, optional=True),
    "headers": _headers,
    "auto_disable": _boolean("auto_disable"),
    "description": _description,
    "owner_email": _email,
    "enabled": _boolean("enabled"),
}
"""What may be given, in the order of the reference."""


def read(document: Any, addresses: Addresses | None, *, whole: bool) -> dict[str, Any]:
    """The fields that are given, all of them right. `addresses`: which may be dialled; None: that is not to be judged.
    `whole`: of a new endpoint, which needs `url` and `events`.

    Raises InvalidEndpoint.
    """
    if not isinstance(document, dict):
        raise InvalidEndpoint([Wrong("", "An endpoint is an object with url and events.")])
    wrong: list[Wrong] = []
    for name, value in document.items():
        judge = FIELDS.get(name)
        if judge is None:
            wrong.append(Wrong(_member(name), f"There is no member {name[:64]!r}; there are {', '.join(FIELDS)}."))
            continue
        faults: _Faults = []
        judge(value, faults, addresses)
        wrong += [Wrong(_member(name) + below, detail) for below, detail in faults]
    if whole:
        examples = {"url": "https://shop.example.com/hooks", "events": '["*"]'}
        for name, example in examples.items():
            if name not in document:
                wrong.append(Wrong(_member(name), f"{name} is missing: give for example {example}."))
    if wrong:
        raise InvalidEndpoint(wrong)
    return dict(document)


class Row(NamedTuple):
    """A row as it may be used. `wrong` says why it may not be, in words for its owner; the rest is empty then.

    `secrets` are all of them and until when each is valid, in seconds of the Unix epoch, the oldest first.
    """

    wrong: str | None
    choice: Choice | None = None
    secrets: tuple[tuple[str, float], ...] = ()
    headers: Mapping[str, str] = {}


def of_row(row: "asyncpg.Record | Mapping[str, Any]") -> Row:
    """Judge `url`, `events`, `filters`, `headers`, `rate`, `secret` and `old_secrets` of a row, JSON as text. It raises
    nothing: a row may hold anything, and concerns one endpoint alone.

    Whether the URL's address may be dialled is judged where an attempt begins.
    """
    try:
        given = {"filters": orjson.loads(row["filters"]), "headers": orjson.loads(row["headers"])}
        fields = {"url": row["url"], "events": row["events"], "rate": row["rate"], **given}
        try:
            read(fields, None, whole=False)
        except InvalidEndpoint as error:
            return Row(_reason(str(error)))
        if not is_secret(row["secret"]):
            return Row(_reason(f"secret is not {signing.PREFIX} and base64 behind it."))
        old = old_secrets(row["old_secrets"])
        if old is None:
            return Row(_reason('old_secrets is no list of {"secret": "whsec_…", "valid_until": seconds}.'))
        if len(old) > MOST_OLD_SECRETS:
            return Row(_reason(f"old_secrets has {len(old)} entries; at most {MOST_OLD_SECRETS} are allowed."))
        choice = _choice(row["events"], given["filters"])
        return Row(None, choice, (*old, (row["secret"], float("inf"))), given["headers"])
    except Exception as error:  # noqa: BLE001 - it must not stop the others
        return Row(_reason(f"{type(error).__name__}."))


def is_secret(secret: Any) -> bool:
    try:
        return isinstance(secret, str) and secret.isascii() and bool(signing.key_of(secret))
    except ValueError:
        return False


def old_secrets(text: str) -> list[tuple[str, float]] | None:
    """Each and until when it is valid, in seconds of the Unix epoch; None where one of them is none."""
    try:
        found = [(each["secret"], float(each["valid_until"])) for each in orjson.loads(text)]
    except (ValueError, TypeError, KeyError):
        return None
    return found if all(is_secret(secret) for secret, _ in found) else None


def _reason(text: str) -> str:
    text = "its row cannot be used: " + text.removesuffix(".")
    return text if len(text) <= LONGEST_REASON else text[:LONGEST_REASON] + "…"


def _choice(events: list[str], given: Mapping[str, str]) -> Choice:
    """Of fields that are right."""
    types = None if "*" in events else TypePatterns.parse(*events)
    found = filters.parse([(name, text) for name, text in given.items() if name not in _PLAIN])
    resource_ids = given.get("resource_id_in")
    with_resources = found.with_resources(
        given.get("resource_type_eq"), None if resource_ids is None else resource_ids.split(",")
    )
    return Choice(types, with_resources, given.get("path_prefix"))


def _member(name: str) -> str:
    return "/" + name[:200].replace("~", "~0").replace("/", "~1")


def _shown(value: Any) -> str:
    """As JSON names it, cut."""
    text = repr(value) if isinstance(value, str) else json.dumps(value, default=repr)
    return text if len(text) <= 80 else text[:80] + "…"


def _shown_url(url: str) -> str:
    """Without what may be a secret: a query, a fragment, credentials."""
    before, _, after = re.split("[?#]", url, maxsplit=1)[0].partition("@")
    return "not shown" if after else _shown(before + ("" if len(before) == len(url) else "?…"))
