"""Bearer tokens (RFC 6750) that are JWTs of a configured issuer. API keys, the other kind, are gateway/api_keys.py's.

The algorithm is chosen by the key, never by the token: an RSA key verifies RS512 and RS256, a P-256 key ES256, and
nothing else is tried. No token is taken from anywhere but the header, and none is ever part of a message or a log.
"""

import binascii
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

import jwt
import orjson
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from jwt.utils import base64url_decode

from streamhub.errors import UserError
from streamhub.web.problems import ApiError, unauthorized

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

ALGORITHMS: Final = ("RS512", "RS256", "ES256")


class Claims(NamedTuple):
    """What a verified token says. `expires_at` in seconds of the Unix epoch, the leeway added, infinite where there is
    no end. `api_key`: the id of the API key that it is; then `enterprise` and `slug` are the registry's."""

    organization_id: str
    slug: str
    enterprise: bool
    kind: str
    test: bool
    scopes: frozenset[str]
    expires_at: float
    api_key: str | None = None


class Keys(Protocol):
    def start(self) -> None:
        """Begin what goes on in the background; `candidates` works without it."""

    async def stop(self) -> None:
        """End it."""

    async def candidates(self, header: Mapping[str, Any]) -> Sequence[PublicKey]:
        """The keys that may have signed a token with this header. Raises ApiError: 401, or 503 where it cannot tell."""


class PemKeys:
    """Public keys out of PEM text (one or several blocks); `kid` plays no part."""

    def __init__(self, pem: bytes, name: str) -> None:
        """`name` is the file's, for messages. Raises UserError."""
        end = b"-----END PUBLIC KEY-----"
        try:
            blocks = [block.strip() + b"\n" + end + b"\n" for block in pem.split(end)[:-1]]
            self._keys = [usable(serialization.load_pem_public_key(block)) for block in blocks]
        except ValueError as error:
            raise UserError(f"{name} holds a public key that cannot be used: {error}") from None
        if not self._keys:
            raise UserError(f"{name} holds no public key: a PEM file with -----BEGIN PUBLIC KEY----- is needed")

    def start(self) -> None:
        pass

    async def stop(self) -> None:
        pass

    async def candidates(self, header: Mapping[str, Any]) -> Sequence[PublicKey]:  # noqa: ARG002
        return self._keys


def usable(key: object) -> PublicKey:
    """The key itself; ValueError where it is of a kind or a size that is not accepted."""
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < 2048:
            raise ValueError(f"an RSA key of {key.key_size} bits, and 2048 or more are needed")
        return key
    if isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1):
        return key
    raise ValueError(f"{type(key).__name__}: RSA or P-256 is needed")


def kind_of(key: PublicKey) -> str:
    return "an RSA key" if isinstance(key, rsa.RSAPublicKey) else "a P-256 key"


def fits(key: PublicKey, algorithm: str) -> bool:
    return algorithm == "ES256" if isinstance(key, ec.EllipticCurvePublicKey) else algorithm in ("RS512", "RS256")


class Issuer(NamedTuple):
    """Tokens with one of these `iss` are verified with these keys."""

    names: frozenset[str]
    keys: Keys


class Authenticator:
    """Verifies tokens. Several issuers may each have their own keys: a development key beside the real one.

    `audience` has to be among a token's `aud` (RFC 7519, 4.1.3); None: a token with an `aud` is for another service.
    `leeway`, in seconds, is granted to `exp` and `nbf`.
    """

    def __init__(self, issuers: Sequence[Issuer], audience: str | None = None, leeway: float = 0.0) -> None:
        self._issuers = tuple(issuers)
        self._audience = audience
        self._leeway = leeway

    def start(self) -> None:
        for issuer in self._issuers:
            issuer.keys.start()

    async def stop(self) -> None:
        for issuer in self._issuers:
            await issuer.keys.stop()

    async def verify(self, token: str, now: float) -> Claims:
        """The claims of a token at `now` (seconds of the Unix epoch). Raises ApiError: 401, or 503."""
        header, unverified = _peek(token)
        algorithm = header.get("alg")
        if algorithm not in ALGORITHMS:
            raise _invalid(f"Its algorithm is {_shown(algorithm)}; {', '.join(ALGORITHMS)} are accepted.")
        name = unverified.get("iss")
        issuer = next((each for each in self._issuers if isinstance(name, str) and name in each.names), None)
        if issuer is None:
            raise _invalid(f"Its issuer, {_shown(name)}, is not one that this hub accepts.")
        for key in await issuer.keys.candidates(header):
            if fits(key, algorithm):
                try:
                    payload = jwt.api_jws.decode(token, key, algorithms=[algorithm])
                except jwt.InvalidTokenError:
                    continue
                verified = orjson.loads(payload)
                self._require_audience(verified)
                return _claims_of(verified, now, self._leeway)
        raise _invalid("Its signature is not by a key of its issuer.")

    def _require_audience(self, claims: Mapping[str, Any]) -> None:
        if self._audience is None:
            if "aud" in claims:
                raise _invalid(
                    f"Its audience (aud) is {_shown(claims['aud'])}, and this hub has no name to find there: its "
                    "operator has to set STREAMHUB_JWT_AUDIENCE."
                )
            return
        audience = claims.get("aud")
        names = [audience] if isinstance(audience, str) else audience
        if not isinstance(names, list) or self._audience not in names:
            raise _invalid(
                f"Its audience (aud) is {_shown(audience)}, and {self._audience!r} (STREAMHUB_JWT_AUDIENCE) has "
                "to be in it."
            )


def bearer(headers: Sequence[str], *, by_browser: bool = False) -> str:
    """The token of the Authorization headers of a request. Raises ApiError; a person at a browser, who cannot send one,
    is told of the dashboard."""
    how = "send the header Authorization: Bearer <token>"
    if by_browser:
        how += "; the page for browsers is /-/dashboard"
    if not headers:
        raise unauthorized("MISSING_TOKEN", f"There is no token: {how}.")
    if len(headers) > 1:
        raise _invalid(f"There are {len(headers)} Authorization headers; send one.")
    scheme, _, token = headers[0].strip().partition(" ")
    if scheme.lower() != "bearer":
        raise unauthorized("MISSING_TOKEN", f"The Authorization header has another scheme than Bearer: {how}.")
    if not token.strip():
        raise unauthorized("MISSING_TOKEN", f"Nothing follows Bearer in the Authorization header: {how}.")
    return token.strip()


def _invalid(detail: str) -> ApiError:
    return unauthorized("INVALID_TOKEN", f"The token is not valid. {detail}")


def _shown(value: object) -> str:
    """A claim's value as a message may show it."""
    return "missing" if value is None else repr(value)[:100]


def _peek(token: str) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Header and claims before anything is verified: good for choosing a key, and for nothing else."""
    try:
        first, second, _ = token.encode("ascii").split(b".")
        header, claims = orjson.loads(base64url_decode(first)), orjson.loads(base64url_decode(second))
    except (binascii.Error, ValueError):  # of which a wrong encoding and wrong JSON are kinds
        raise _invalid("It is no JWT, which has three parts in base64url, joined with dots.") from None
    if not isinstance(header, dict) or not isinstance(claims, dict):
        raise _invalid("Its header and its claims have to be JSON objects.")
    if "crit" in header:
        raise _invalid("Its header has critical extensions (crit), and this hub knows none.")
    if not isinstance(header.get("kid", ""), str):
        raise _invalid("The name of its key (kid) must be a string.")
    return header, claims


def _claims_of(claims: Mapping[str, Any], now: float, leeway: float) -> Claims:
    not_before = _time(claims, "nbf") if "nbf" in claims else None
    _time(claims, "iat")
    expires_at = _time(claims, "exp") + leeway
    if not_before is not None and now < not_before - leeway:
        raise _invalid("Its time (nbf) has not come yet.")
    organization, application = _object(claims, "organization"), _object(claims, "application")
    verified = Claims(
        organization_id=_text(organization, "organization.id"),
        slug=_text(organization, "organization.slug"),
        enterprise=_boolean(organization, "organization.enterprise"),
        kind=_text(application, "application.kind"),
        test=_boolean(claims, "test"),
        scopes=frozenset(_text(claims, "scope", empty=True).split()),
        expires_at=expires_at,
    )
    _text(application, "application.id")
    _text(application, "application.client_id", empty=True)
    if now >= expires_at:
        raise unauthorized("EXPIRED_TOKEN", "The token has expired: get a new one.")
    return verified


def _value(claims: Mapping[str, Any], name: str) -> Any:
    value = claims.get(name.rpartition(".")[2])
    if value is None:
        raise _invalid(f"It has no claim {name}.")
    return value


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = _value(claims, name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise _invalid(f"Its claim {name} must be a number of seconds.")
    return float(value)


def _object(claims: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = _value(claims, name)
    if not isinstance(value, dict):
        raise _invalid(f"Its claim {name} must be an object.")
    return value


def _text(claims: Mapping[str, Any], name: str, empty: bool = False) -> str:
    value = _value(claims, name)
    if not isinstance(value, str) or not (value or empty) or "\0" in value:
        raise _invalid(f"Its claim {name} must be a string{'' if empty else ' that is not empty'}.")
    return value


def _boolean(claims: Mapping[str, Any], name: str) -> bool:
    value = _value(claims, name)
    if not isinstance(value, bool):
        raise _invalid(f"Its claim {name} must be true or false.")
    return value


def pem_keys(path: Path) -> PemKeys:
    """The public keys in a file. Raises UserError."""
    try:
        return PemKeys(path.read_bytes(), str(path))
    except OSError as error:
        raise UserError(f"STREAMHUB_JWT_PUBLIC_KEY_FILE is {str(path)!r}, which cannot be read: {error}") from None
