"""The development key: signs the tokens that `streamhub token` and the demo print. No production hub has one.

A token's claims are those of any issuer's: `iss`, `exp`, `iat`, `organization{id,slug,enterprise}`,
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
        """The key in `path`, made there if there is none; of several processes at once, all get the same one."""
        try:
            if not path.exists():
                _create(path)
            key = serialization.load_pem_private_key(path.read_bytes(), password=None)
        except OSError as error:
            raise UserError(
                f"cannot use the signing key {path} ({error.strerror}): name a file that can be read or made, "
                "for example STREAMHUB_SIGNING_KEY_FILE=/var/lib/streamhub/signing_key.pem"
            ) from error
        except (ValueError, TypeError) as error:
            raise UserError(
                f"the signing key {path} is no unencrypted private key in PEM: remove it, a new one will be made"
            ) from error
        if not isinstance(key, rsa.RSAPrivateKey) or key.key_size < 2048:
            raise UserError(f"the signing key {path} is no RSA key of 2048 bits or more: remove it for a new one")
        return cls(key)

    @property
    def public_pem(self) -> bytes:
        return self._private_key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, claims: Mapping[str, Any]) -> str:
        """A JWT, RS512, with `kid`, and with our issuer unless the claims name one."""
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
    """What a token of this organization says, from `now` on for `ttl`. `audience`: the hub's own, where it has one."""
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
    """Written beside and linked into place, so no process reads half a key and the first of several writers wins."""
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
