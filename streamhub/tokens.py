"""The development key, which signs the tokens of `streamhub token` and the demo. A production hub has none.

A token has the claims of any issuer's token: `iss`, `exp`, `iat`, `organization{id,slug,enterprise}`,
`application{id,kind,client_id}`, `test`, `scope`.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from streamhub.config import Settings
from streamhub.errors import UserError
from streamhub.organizations import Organization

ISSUER = "streamhub-development"
ALGORITHM = "RS512"


class DevelopmentKey:
    """An RSA key in a PEM file that only its owner may read."""

    def __init__(self, private_key: rsa.RSAPrivateKey) -> None:
        self._private_key = private_key
        public_der = private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        self.kid = urlsafe_b64encode(hashlib.sha256(public_der).digest()[:12]).decode()

    @classmethod
    def load_or_create(cls, path: Path) -> DevelopmentKey:
        """The key in `path`, created if missing. Several processes at once get the same key. Raises UserError."""
        try:
            if not path.exists():
                _create(path)
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise UserError(
                f"cannot use the signing key {path} ({error.strerror}): name a file that can be read or created, "
                "for example STREAMHUB_SIGNING_KEY_FILE=/var/lib/streamhub/signing_key.pem"
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the signing key {path} is not an unencrypted private key in PEM: remove it, and a new one is created"
            ) from error
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
            raise UserError(
                f"the signing key {path} is not an RSA key of 2048 bits or more: remove it, and a new one is created"
            )
        return cls(key)

    @classmethod
    def of(cls, settings: Settings) -> DevelopmentKey:
        """The key of these settings. Raises UserError in production, which has none."""
        if settings.development_key_file is None:
            raise UserError(
                "there is no development key: with an external STREAMHUB_DATABASE_URL set for example "
                "STREAMHUB_SIGNING_KEY_FILE=/var/lib/streamhub/signing_key.pem, for this command and for serve"
            )
        return cls.load_or_create(settings.development_key_file)

    @property
    def public_pem(self) -> bytes:
        return self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT, RS512, with `kid`. Its issuer is ISSUER unless the claims name another."""
        return jwt.encode({"iss": ISSUER, **claims}, self._private_key, algorithm=ALGORITHM, headers={"kid": self.kid})


def claims_for(
    organization: Organization,
    *,
    now: datetime,
    ttl: timedelta,
    test: bool = False,
    kind: str = "integration",
    scope: Iterable[str] = (),
    audience: str | None = None,
) -> dict[str, Any]:
    """The claims of a token of this organization, valid from `now` for `ttl`. `audience`: the hub's, if it has one."""
    return {
        **({} if audience is None else {"aud": audience}),
        "iat": int(now.timestamp()),
        "exp": int((now + ttl).timestamp()),
        "organization": {"id": organization.id, "slug": organization.slug, "enterprise": organization.enterprise},
        "application": {"id": "development", "kind": kind, "client_id": "streamhub-cli"},
        "test": test,
        "scope": " ".join(scope),
    }


def _create(path: Path) -> None:
    """Write the key beside `path`, then link it: no reader sees half a key, and the first of several writers wins."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pem = rsa.generate_private_key(public_exponent=65537, key_size=2048).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(pem)
            os.fsync(descriptor)
        with contextlib.suppress(FileExistsError):
            path.hardlink_to(unfinished)
    finally:
        unfinished.unlink()
