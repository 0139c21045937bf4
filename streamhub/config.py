"""Settings: the environment's `STREAMHUB_…` variables. A command's flags win over them.

Durations are written `500ms`, `5s`, `30m`, `2h`, `7d` (or several, `1h30m`) and read as timedelta; sizes `64KiB`,
`16MiB`, `1GiB` or plain bytes, and read as int. A wrong value raises UserError: one sentence with the variable, the
value and a right example. Its parts are the field's: `description` completes "… is not", the first example is right.
"""

from __future__ import annotations

import contextlib
import difflib
import ipaddress
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from streamhub.core.durations import parse_duration
from streamhub.errors import UserError
from streamhub.urls import WrongUrlError, shown_words, target

PREFIX = "STREAMHUB_"
SECRETS = ("database_url", "source_urls", "kafka_sasl_password", "smtp_url", "webhook_proxy_url")
"""Settings whose value may be in a file named by `STREAMHUB_…_FILE`."""
OF_CLIENTS = ("URL", "ORG", "TOKEN")
"""What stands behind PREFIX in variables that client commands read, and a hub does not."""
OF_THE_PACKAGE = ("COMPILED",)
"""… in one that is read when the package is imported (core/__init__.py)."""
ROLES = ("relay", "gateway", "webhooks")

_SIZES = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


def parse_size(text: str) -> int:
    """`16MiB` → bytes. Raises ValueError for anything else."""
    match = re.fullmatch(r"([0-9]+)\s*([a-z]*)", text.strip().lower())
    if match is None or match[2] not in _SIZES:
        raise ValueError(text)
    return int(match[1]) * _SIZES[match[2]]


def _duration(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


def _positive(value: timedelta) -> timedelta:
    if value <= timedelta(0):
        raise ValueError(value)
    return value


def _size(value: object) -> object:
    return parse_size(value) if isinstance(value, str) else value


def _words(value: object) -> object:
    return tuple(re.split(r"[\s,]+", value.strip())) if isinstance(value, str) else value


def _roles(value: frozenset[str]) -> frozenset[str]:
    if not value or not value <= set(ROLES):
        raise ValueError(value)
    return value


def _postgres_url(value: str) -> str:
    target(value)
    return value


def _sources(value: object) -> object:
    if not isinstance(value, str):
        return value
    found: dict[str, str] = {}
    for word in value.split():
        name, equals, url = word.partition("=")
        if not equals or not re.fullmatch(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?", name) or name in found:
            raise ValueError(word)
        found[name] = _postgres_url(url)
    return found


def _origins(value: tuple[str, ...]) -> tuple[str, ...]:
    for origin in value:
        parts = urlsplit(origin)
        _ = parts.port  # raises ValueError where it is not a number
        bare = f"{parts.scheme}://{parts.netloc}".lower()
        if origin != "*" and (parts.scheme not in ("http", "https") or not parts.hostname or origin != bare):
            raise ValueError(origin)
    return value


def _jwks_url(value: str) -> str:
    parts = urlsplit(value)
    loopback = parts.hostname in ("localhost", "127.0.0.1", "::1")
    if not (parts.hostname and (parts.scheme == "https" or (parts.scheme == "http" and loopback))):
        raise ValueError(value)
    return value


def _brokers(value: tuple[str, ...]) -> tuple[str, ...]:
    for broker in value:
        parts = urlsplit(f"//{broker}")
        if not parts.hostname or parts.port is None or parts.netloc != broker or parts.username is not None:
            raise ValueError(broker)
    return value


def _topic(value: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9._-]{1,249}", value) or value in (".", ".."):
        raise ValueError(value)
    return value


def _readable_file(value: Path) -> Path:
    try:
        with value.open("rb"):
            return value
    except OSError as error:
        raise ValueError(value) from error


def _schedule(value: object) -> object:
    return tuple(map(parse_duration, re.split(r"[\s,]+", value.strip()))) if isinstance(value, str) else value


def _pauses(value: tuple[timedelta, ...]) -> tuple[timedelta, ...]:
    if not 1 <= len(value) <= 20 or not all(timedelta(0) < pause <= timedelta(days=7) for pause in value):
        raise ValueError(value)
    return value


def _networks(value: object) -> object:
    if not isinstance(value, str):
        return value
    return tuple(ipaddress.ip_network(word) for word in re.split(r"[\s,]+", value.strip()))


def _proxy_url(value: str) -> str:
    parts = urlsplit(value)
    _ = parts.port
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(value)
    return value


def _smtp_url(value: str) -> str:
    parts = urlsplit(value)
    _ = parts.port
    if parts.scheme not in ("smtp", "smtps") or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(value)
    return value


def default_data_dir() -> Path:
    """For root and for a user without a home (a container's user may be a number without a name): /var/lib/streamhub.
    Root's home is no choice: the user that PostgreSQL then runs as may not enter it."""
    with contextlib.suppress(RuntimeError):
        if os.geteuid() != 0:
            return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "streamhub"
    return Path("/var/lib/streamhub")


Duration = Annotated[timedelta, BeforeValidator(_duration), AfterValidator(_positive)]
DurationOrNone = Annotated[timedelta, BeforeValidator(_duration)]
Size = Annotated[int, BeforeValidator(_size), Field(gt=0)]
Words = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words)]
Port = Annotated[int, Field(ge=1, le=65535)]
PostgresUrl = Annotated[str, AfterValidator(_postgres_url)]

_A_DURATION = "a duration with its unit (ms, s, m, h, d)"
_A_PORT = "a TCP port from 1 to 65535"
_A_DATABASE = "a PostgreSQL URL"
_A_FILE = "a file that can be read"


class Settings(BaseSettings):
    """The settings of one process; immutable. Use `load`: it raises errors for people.

    The sentence under each field is its text in docs/reference/settings.md (`make docs`).
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, env_ignore_empty=True, frozen=True, extra="forbid")

    database_url: PostgresUrl | None = Field(
        None, description=_A_DATABASE, examples=["postgresql://hub:secret@db.example.com:5432/hub"]
    )
    """The hub's database. Unset: an embedded PostgreSQL in `DATA_DIR`."""
    source_urls: Annotated[dict[str, str], NoDecode, BeforeValidator(_sources)] = Field(
        default_factory=dict,
        description="a list of name=url, separated by spaces",
        examples=["shop=postgresql://hub:secret@shop.example.com/shop"],
    )
    """The databases whose tables are captured. Unset: the hub's own database."""
    kafka_bootstrap_servers: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words), AfterValidator(_brokers)] = (
        Field((), description="a list of host:port, separated by commas", examples=["kafka-1:9092,kafka-2:9092"])
    )
    """Set: events go to Apache Kafka too, and gateways follow its topic. Unset: no Kafka."""
    kafka_topic: Annotated[str, AfterValidator(_topic)] = Field(
        "streamhub.events",
        description="a topic's name (letters, digits, dot, dash and underscore, at most 249)",
        examples=["streamhub.events"],
    )
    """The topic. The relay creates it where it is missing."""
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL", examples=["SASL_SSL"]
    )
    """The kind of the brokers' listener."""
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] | None = Field(
        None, description="PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", examples=["SCRAM-SHA-512"]
    )
    """How this process signs in. The two protocols with SASL need it, the user name and the password."""
    kafka_sasl_username: str | None = Field(None, description="a user's name", examples=["streamhub"])
    """The user name for SASL."""
    kafka_sasl_password: str | None = Field(None, repr=False, description="a password", examples=["its-password"])
    """The password for SASL."""
    kafka_ssl_ca_file: Annotated[Path, AfterValidator(_readable_file)] | None = Field(
        None, description=_A_FILE, examples=["/etc/streamhub/kafka-ca.pem"]
    )
    """The CA of the brokers' certificates, in PEM. Unset: the CAs of the system."""
    kafka_ssl_cert_file: Annotated[Path, AfterValidator(_readable_file)] | None = Field(
        None, description=_A_FILE, examples=["/etc/streamhub/kafka.pem"]
    )
    """This process's own certificate, in PEM, where brokers ask for one."""
    kafka_ssl_key_file: Annotated[Path, AfterValidator(_readable_file)] | None = Field(
        None, description=_A_FILE, examples=["/etc/streamhub/kafka.key"]
    )
    """The unencrypted key of that certificate, in PEM."""
    data_dir: Path = Field(default_factory=default_data_dir, description="a directory", examples=["/var/lib/streamhub"])
    """Holds the embedded PostgreSQL and the development key. Unset: `~/.local/share/streamhub`, as root
    `/var/lib/streamhub`."""
    host: str = Field("127.0.0.1", description="an address to listen on", examples=["0.0.0.0"])  # noqa: S104
    """The address to listen on."""
    port: Port = Field(8080, description=_A_PORT, examples=["8080"])
    """The port to listen on."""
    roles: Annotated[frozenset[str], NoDecode, BeforeValidator(_words), AfterValidator(_roles)] = Field(
        frozenset(ROLES), description=f"a list of roles ({', '.join(ROLES)})", examples=["relay,gateway"]
    )
    """What this process does. Unset: all roles."""
    jwt_issuers: Words = Field(
        (), description="a list of issuers, separated by commas", examples=["https://auth.example.com"]
    )
    """The issuers whose tokens are accepted."""
    jwt_jwks_url: Annotated[str, AfterValidator(_jwks_url)] | None = Field(
        None,
        description="an https URL (http only to loopback)",
        examples=["https://auth.example.com/.well-known/jwks.json"],
    )
    """Where the issuers publish their keys. Set this or `JWT_PUBLIC_KEY_FILE`."""
    jwt_public_key_file: Annotated[Path, AfterValidator(_readable_file)] | None = Field(
        None, description=_A_FILE, examples=["/etc/streamhub/issuer.pem"]
    )
    """A PEM file with the issuer's key. Set this or `JWT_JWKS_URL`."""
    jwt_audience: str | None = Field(
        None, description="this hub's name in tokens (aud)", examples=["https://hub.example.com"]
    )
    """This hub's name, which `aud` of a token must hold. Unset: a token with an `aud` is refused."""
    jwt_leeway: DurationOrNone = Field(timedelta(0), description=_A_DURATION, examples=["30s"])
    """How much later than `exp`, or earlier than `nbf`, a token still counts: for clocks that differ."""
    signing_key_file: Path | None = Field(None, description="a path", examples=["/var/lib/streamhub/signing_key.pem"])
    """The development key, with which `streamhub token` signs. Leave it empty in production. Unset: none; in
    embedded mode a file in `DATA_DIR`."""
    retention: Duration | None = Field(None, description=_A_DURATION, examples=["365d"])
    """How long history is kept. Unset: for ever. Whole weeks are dropped."""
    resume_window: Duration = Field(timedelta(minutes=30), description=_A_DURATION, examples=["30m"])
    """How far back a live stream resumes by itself. Older events come by replay."""
    stale_after: Duration = Field(timedelta(seconds=5), description=_A_DURATION, examples=["5s"])
    """How long an organization's stream is kept for its last consumer after a connection has ended."""
    heartbeat_interval: Duration = Field(timedelta(seconds=10), description=_A_DURATION, examples=["10s"])
    """The time between two heartbeats of a live stream or a replay."""
    ping_interval: Duration = Field(timedelta(seconds=30), description=_A_DURATION, examples=["30s"])
    """The time between two pings of a broadcast stream."""
    replay_max_window: Duration = Field(timedelta(days=7), description=_A_DURATION, examples=["7d"])
    """The longest window of a replay."""
    drain_time: DurationOrNone = Field(timedelta(seconds=10), description=_A_DURATION, examples=["10s"])
    """At a shutdown, the time over which streams are ended."""
    resume_overlap: DurationOrNone = Field(timedelta(seconds=10), description=_A_DURATION, examples=["10s"])
    """Without `Last-Event-ID`, a stream goes on this much before the last acknowledged event."""
    resume_overlap_always: bool = Field(False, description="true or false", examples=["true"])
    """Overlap after a clean end too: for a proxy that sends none of `X-Forwarded-For`, `Via`, `Forwarded`."""
    max_event_bytes: Size = Field(16 * 2**20, description="a size (bytes, KiB, MiB, GiB)", examples=["16MiB"])
    """An event larger than this comes without values, and says `"too_large"`."""
    max_streams: int = Field(1000, ge=1, description="a number from 1", examples=["1000"])
    """Broadcast streams at once for one organization on one gateway process."""
    max_replays: int = Field(4, ge=1, description="a number from 1", examples=["4"])
    """Replays at once for one organization, queued ones included."""
    replay_queue_limit: int = Field(1000, ge=1, description="a number from 1", examples=["1000"])
    """Replays that may wait in the queue, over all organizations and processes."""
    operations_port: Port | None = Field(None, description=_A_PORT, examples=["9090"])
    """Moves `/-/healthy`, `/-/ready` and `/-/metrics` to a port of their own. Unset: they are on `PORT`."""
    cors_origins: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_words), AfterValidator(_origins)] = Field(
        (),
        description="a list of origins (scheme and host in lower case, no path; * is any), separated by commas",
        examples=["https://app.example.com"],
    )
    """The web origins whose pages may call this hub. Unset: none."""
    webhook_schedule: Annotated[
        tuple[timedelta, ...], NoDecode, BeforeValidator(_schedule), AfterValidator(_pauses)
    ] = Field(
        tuple(map(parse_duration, ("1m", "5m", "30m", "2h", "24h"))),
        description="a list of 1 to 20 durations up to 7d, separated by commas",
        examples=["1m,5m,30m,2h,24h"],
    )
    """The pauses before the second and each later attempt to deliver a webhook. After the last one it is given up."""
    webhook_allow_addresses: Annotated[
        tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...], NoDecode, BeforeValidator(_networks)
    ] = Field((), description="a list of networks (CIDR), separated by commas", examples=["10.20.0.0/16,fd00::/8"])
    """Networks that webhooks may be delivered to, though they are not public. Unset: none; in development loopback."""
    webhook_proxy_url: Annotated[str, AfterValidator(_proxy_url)] | None = Field(
        None, repr=False, description="the URL of an HTTP proxy", examples=["http://user:secret@proxy.example.com:3128"]
    )
    """An HTTP proxy that webhooks go through, by CONNECT, but for loopback in development. Unset: they go directly."""
    smtp_url: Annotated[str, AfterValidator(_smtp_url)] | None = Field(
        None,
        repr=False,
        description="the URL of a mail server",
        examples=["smtp://user:secret@mail.example.com:587?from=hub@example.com"],
    )
    """The mail server that owners of disabled webhook endpoints are told through. Unset: it is logged alone."""
    log_format: Literal["text", "json"] = Field("text", description="text or json", examples=["json"])
    """The form of log lines on stderr."""

    @property
    def embedded(self) -> bool:
        """Whether the hub runs its own PostgreSQL, in `data_dir`."""
        return self.database_url is None

    @property
    def described_roles(self) -> str:
        """The roles, as log lines name them."""
        *others, last = sorted(self.roles)
        return f"{', '.join(others)} and {last}" if others else last

    @property
    def publication_topic(self) -> str | None:
        """The topic of events; None where Kafka is not used."""
        return self.kafka_topic if self.kafka_bootstrap_servers else None

    @property
    def development_key_file(self) -> Path | None:
        """The key of `streamhub token`; None in production. Embedded mode creates its own."""
        if self.signing_key_file is not None:
            return self.signing_key_file
        return self.data_dir / "signing_key.pem" if self.embedded else None

    def require_verifiable_tokens(self) -> None:
        """Raises UserError where a server with these settings could verify no token, or has contradictory keys."""
        keys = self.jwt_jwks_url is not None or self.jwt_public_key_file is not None
        if self.jwt_jwks_url is not None and self.jwt_public_key_file is not None:
            raise UserError(
                f"{PREFIX}JWT_JWKS_URL and {PREFIX}JWT_PUBLIC_KEY_FILE are both set, and an issuer's keys come from "
                f"only one of them: for example, unset {PREFIX}JWT_PUBLIC_KEY_FILE, {str(self.jwt_public_key_file)!r}"
            )
        if self.jwt_issuers and not keys:
            raise UserError(
                f"{PREFIX}JWT_ISSUERS is {','.join(self.jwt_issuers)!r}, but no key verifies their tokens: set "
                f"for example {PREFIX}JWT_JWKS_URL=https://auth.example.com/.well-known/jwks.json"
            )
        if keys and not self.jwt_issuers:
            raise UserError(
                f"{PREFIX}JWT_ISSUERS is not set, and a key alone verifies no issuer's tokens: set for example "
                f"{PREFIX}JWT_ISSUERS=https://auth.example.com"
            )
        if not keys and self.development_key_file is None:
            raise UserError(
                f"{PREFIX}DATABASE_URL is set, and no issuer's tokens are accepted: set {PREFIX}JWT_ISSUERS with "
                f"{PREFIX}JWT_JWKS_URL or {PREFIX}JWT_PUBLIC_KEY_FILE, or in development "
                f"{PREFIX}SIGNING_KEY_FILE=/var/lib/streamhub/signing_key.pem"
            )


def load(**overrides: Any) -> Settings:
    """The settings of this environment. Overrides that are not None win. Raises UserError."""
    given = {name: value for name, value in overrides.items() if value is not None}
    from_files = dict(_secrets_in_files())
    try:
        settings = Settings(**{**from_files, **given})
    except ValidationError as error:
        raise UserError("; ".join(dict.fromkeys(_messages(error, {**from_files, **given})))) from None
    for problem in _kafka_problems(settings):
        raise UserError(problem)
    return settings


def _kafka_problems(settings: Settings) -> Iterator[str]:
    """Settings for brokers that contradict each other; none where no broker is set."""
    protocol = settings.kafka_security_protocol
    if not settings.kafka_bootstrap_servers:
        return
    for kind, protocols in (("kafka_sasl_", ("SASL_SSL", "SASL_PLAINTEXT")), ("kafka_ssl_", ("SASL_SSL", "SSL"))):
        names = [name for name in Settings.model_fields if name.startswith(kind)]
        given = [name for name in names if getattr(settings, name) is not None]
        if given and protocol not in protocols:
            yield (
                f"{PREFIX}{given[0].upper()} is set, and {PREFIX}KAFKA_SECURITY_PROTOCOL is {protocol!r}, which does "
                f"not use it: set for example {PREFIX}KAFKA_SECURITY_PROTOCOL={protocols[0]}"
            )
        if kind == "kafka_sasl_" and protocol in protocols:
            for missing in (name for name in names if name not in given):
                yield _missing(missing, f"{PREFIX}KAFKA_SECURITY_PROTOCOL is {protocol!r}")
    for one, other in (("cert", "key"), ("key", "cert")):
        given_file, missing = getattr(settings, f"kafka_ssl_{one}_file"), f"kafka_ssl_{other}_file"
        if given_file is not None and getattr(settings, missing) is None:
            yield _missing(missing, f"{PREFIX}KAFKA_SSL_{one.upper()}_FILE is {str(given_file)!r}")


def _missing(name: str, needed_by: str) -> str:
    variable, example = PREFIX + name.upper(), (Settings.model_fields[name].examples or [""])[0]
    return f"{variable} is not set, and {needed_by}, which needs it: set for example {variable}={example}"


def _secrets_in_files() -> Iterable[tuple[str, str]]:
    for name in SECRETS:
        variable = PREFIX + name.upper()
        path = os.environ.get(f"{variable}_FILE")
        if not path or name not in Settings.model_fields:
            continue
        if os.environ.get(variable):
            raise UserError(f"{variable} and {variable}_FILE are both set: remove one")
        try:
            text = Path(path).read_text()
        except (OSError, UnicodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
            raise UserError(
                f"{variable}_FILE is {path!r}, which cannot be read ({reason}): for example "
                f"{variable}_FILE=/run/secrets/{name}"
            ) from None
        yield name, text.removesuffix("\n").removesuffix("\r")


def unknown_variables(environment: Mapping[str, str] = os.environ) -> list[str]:
    """A warning for each variable that looks like a setting and is none."""
    known = [name.upper() for name in Settings.model_fields]
    known += [f"{name.upper()}_FILE" for name in SECRETS if name in Settings.model_fields]
    known += (*OF_CLIENTS, *OF_THE_PACKAGE)
    warnings = []
    for variable in sorted(environment):
        name = variable.removeprefix(PREFIX)
        if variable.startswith(PREFIX) and name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            warnings.append(f"{variable} is not a setting" + (f"; did you mean {PREFIX}{near[0]}?" if near else ""))
    return warnings


def _messages(error: ValidationError, overrides: Mapping[str, object]) -> Iterable[str]:
    for fault in error.errors():
        name = str(fault["loc"][0]) if fault["loc"] else ""
        field = Settings.model_fields.get(name)
        if field is None:
            yield f"{name} is not a setting"
            continue
        variable = PREFIX + name.upper()
        value = str(overrides[name] if name in overrides else os.environ.get(variable, fault["input"]))
        shown = shown_words(value)
        reason = fault.get("ctx", {}).get("error")
        wrong = str(reason) if isinstance(reason, WrongUrlError) else f"is not {field.description}"
        hint = ""
        if name == "port" and value.startswith("tcp://"):
            hint = " (Kubernetes sets it for a service named streamhub: set enableServiceLinks: false in the pod)"
        example = (field.examples or [""])[0]
        yield f"{variable} is {shown!r}, which {wrong}: for example {variable}={example}{hint}"
