"""URLs that may hold a secret: how messages show them, and which parameters of a PostgreSQL URL are supported."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, urlencode, urlsplit

_POSTGRES: Final = ("postgresql", "postgres")

# Parameters whose values are no secret.
_HARMLESS: Final = frozenset(
    [
        "host",
        "hostaddr",
        "port",
        "dbname",
        "database",
        "user",
        "sslmode",
        "sslnegotiation",
        "target_session_attrs",
        "application_name",
        "connect_timeout",
        "channel_binding",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "gssencmode",
        "service",
    ]
)

# Parameters that asyncpg supports as libpq does.
_OF_ASYNCPG: Final = frozenset(
    [
        "host",
        "port",
        "dbname",
        "database",
        "user",
        "password",
        "passfile",
        "sslmode",
        "sslcert",
        "sslkey",
        "sslrootcert",
        "sslnegotiation",
        "sslcrl",
        "sslpassword",
        "ssl_min_protocol_version",
        "ssl_max_protocol_version",
        "target_session_attrs",
        "krbsrvname",
        "gsslib",
        "service",
        "options",
    ]
)
# Parameters that are ignored; where values are listed, other values are refused.
_WITHOUT_EFFECT: Final = {
    "application_name": None,
    "fallback_application_name": None,
    "channel_binding": ("disable", "prefer"),
    "gssencmode": ("disable", "prefer"),
    "client_encoding": ("auto", "utf8", "UTF8", "utf-8", "UTF-8"),
    "sslcompression": ("0",),
    "sslsni": ("1",),
    "keepalives": ("1",),
    "load_balance_hosts": ("disable",),
}
_OF_LIBPQ: Final = frozenset(
    [
        "keepalives_idle",
        "keepalives_interval",
        "keepalives_count",
        "tcp_user_timeout",
        "requiressl",
        "requirepeer",
        "require_auth",
        "sslcertmode",
        "sslcrldir",
        "sslkeylogfile",
        "min_protocol_version",
        "max_protocol_version",
        "gssdelegation",
        "replication",
        "scram_client_key",
        "scram_server_key",
        "servicefile",
        "oauth_issuer",
        "oauth_client_id",
        "oauth_client_secret",
        "oauth_scope",
    ]
)
_INSTEAD: Final = {
    "channel_binding": "sslmode=verify-full verifies the server",
    "hostaddr": "name the address as the host",
    "sslrootcert": "name the file with the authority's certificate",
}
_FILES: Final = ("sslrootcert", "sslcert", "sslkey", "sslcrl")
_SSL_MODES: Final = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
_SESSIONS: Final = ("any", "read-write", "read-only", "primary", "standby", "prefer-standby")


class WrongUrlError(ValueError):
    """Why a URL cannot be used. The message completes "…, which" and holds no secret."""


class Target(NamedTuple):
    """What asyncpg gets: `url` has only parameters that it supports. `connect_timeout`: seconds; None: not given."""

    url: str
    connect_timeout: float | None


def shown(url: str) -> str:
    """A URL for messages and logs, without passwords and anything that may be one."""
    scheme, separator, rest = url.partition("://")
    if not separator or not scheme.replace("+", "").isalnum():
        return "…"
    try:
        parts = urlsplit(url)
    except ValueError:
        return f"{scheme}://…"
    if not _has_ports(parts.netloc):  # for example, a password with a slash
        return f"{scheme}://…"
    # An @ after the address: what looks like the address is a part of a password.
    if "@" in rest.removeprefix(parts.netloc).partition("?")[0] or rest.count("@") > 1 or parts.fragment:
        return f"{scheme}://…"
    userinfo, at, address = parts.netloc.rpartition("@")
    if not at and "@" in rest:
        return f"{scheme}://…"
    user, colon, _ = userinfo.partition(":")
    if scheme not in _POSTGRES:
        user, colon = "", ":" if userinfo else ""
    query = "&".join(_shown_parameters(parts.query, harmless=scheme in _POSTGRES))
    return f"{scheme}://{user}{colon and ':…'}{at}{address}{parts.path}{'?' if query else ''}{query}".replace(
        "://:…@", "://…@"
    )


def shown_words(text: str) -> str:
    """The value of a setting for messages: URLs and `name=URL` without secrets."""
    if not ("://" in text or "@" in text or "password" in text.lower()):
        return text
    words = text.split(" ")
    # A word without :// beside a URL is the end of a password with a space, which began in the word before.
    if "://" in text and not all("://" in word for word in words):
        return "…"
    return " ".join(map(_shown_word, words))


def _shown_word(word: str) -> str:
    name, equals, url = word.partition("=")
    if equals and "://" in url and name.replace("-", "").replace("_", "").isalnum():
        return f"{name}={shown(url)}"
    return shown(word)


def _shown_parameters(query: str, *, harmless: bool) -> Iterator[str]:
    for part in filter(None, query.split("&")):
        (name, value), *_ = parse_qsl(part, keep_blank_values=True) or [("", "")]
        if harmless and name in _HARMLESS and value:
            yield f"{name}={value}"
        else:
            yield f"{name}=…" if name in _OF_ASYNCPG | _WITHOUT_EFFECT.keys() else "…"


def _has_ports(netloc: str) -> bool:
    """Whether all ports are numbers."""
    addresses = netloc.rpartition("@")[2].split(",")
    ports = [address.rpartition("]")[2].partition(":")[2] for address in addresses]
    return all(not port or (port.isascii() and port.isdigit() and int(port) < 65536) for port in ports)


def target(url: str) -> Target:
    """What to connect to, as libpq does. Raises WrongUrlError."""
    parts = urlsplit(url)
    try:
        parameters = dict(parse_qsl(parts.query, strict_parsing=True, keep_blank_values=True)) if parts.query else {}
    except ValueError:
        raise WrongUrlError("is not a PostgreSQL URL") from None
    if parts.scheme not in _POSTGRES or not (parts.netloc or parts.query) or not _has_ports(parts.netloc):
        raise WrongUrlError("is not a PostgreSQL URL")
    if parts.netloc.count("@") > 1 or parts.fragment or "@" in parts.path:
        raise WrongUrlError(
            "has a character in its user or password that must be written as %40 (@), %2F (/), %3F (?) or %23 (#)"
        )
    kept = {}
    for name, value in parameters.items():
        _check(name, value)
        if name in _OF_ASYNCPG:
            kept[name] = value
    connect_timeout = None
    if "connect_timeout" in parameters:
        seconds = int(parameters["connect_timeout"])
        connect_timeout = float(max(seconds, 2)) if seconds > 0 else None
    return Target(parts._replace(query=urlencode(kept)).geturl(), connect_timeout)


def _check(name: str, value: str) -> None:
    instead = _INSTEAD.get(name, "leave it out")
    if name == "connect_timeout":
        if not (value.removeprefix("-").isascii() and value.removeprefix("-").isdigit()):
            raise WrongUrlError("has a connect_timeout that is not a whole number of seconds")
    elif name in _WITHOUT_EFFECT:
        allowed = _WITHOUT_EFFECT[name]
        if allowed is not None and value not in allowed:
            raise WrongUrlError(f"asks for {name}={value}, which is not supported: {instead}")
    elif name not in _OF_ASYNCPG:
        # Show only known names: an unknown one may be a part of a password.
        known = f" {name}" if name in _HARMLESS | _OF_LIBPQ else ""
        raise WrongUrlError(f"has a parameter{known} that is not supported: {instead}")
    elif name == "sslmode" and value not in _SSL_MODES:
        raise WrongUrlError(f"has an sslmode that is not one of {', '.join(_SSL_MODES)}")
    elif name == "target_session_attrs" and value not in _SESSIONS:
        raise WrongUrlError(f"has a target_session_attrs that is not one of {', '.join(_SESSIONS)}")
    elif name == "sslrootcert" and value == "system":
        raise WrongUrlError(f"asks for sslrootcert=system, which is not supported: {_INSTEAD[name]}")
    elif name in _FILES:
        try:
            with Path(value).open("rb"):
                pass
        except OSError as error:
            raise WrongUrlError(f"has a file as {name} that cannot be read ({error.strerror})") from None
