"""Access to a broker: a CA with certificates, users with passwords, and rights by ACLs.

The listener PLAINTEXT needs no user and allows everything: the brokers and the tests use it. On the other listeners a
user may do only what an ACL grants.
"""

import datetime as dt
import ipaddress
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

SECURED: Final = ("SSL", "SASL_PLAINTEXT", "SASL_SSL")
VALID_FOR: Final = dt.timedelta(days=7)


class Authority:
    """A CA. `certificate`: its PEM file."""

    def __init__(self, directory: Path, name: str = "ca") -> None:
        self.certificate = directory / f"{name}.pem"
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self._root = self._signed(self._name, self._key, x509.BasicConstraints(ca=True, path_length=None))
        self.certificate.write_bytes(self._root.public_bytes(serialization.Encoding.PEM))

    def issue(self, name: str) -> tuple[Path, Path]:
        """(certificate, key): files of a certificate for 127.0.0.1 and localhost."""
        key = ec.generate_private_key(ec.SECP256R1())
        certificate = self._signed(
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]),
            key,
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]),
        )
        files = self._directory / f"{name}.pem", self._directory / f"{name}.key"
        files[0].write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        return files

    def _signed(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, extension: x509.ExtensionType
    ) -> x509.Certificate:
        now = dt.datetime.now(dt.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + VALID_FOR)
            .add_extension(extension, critical=isinstance(extension, x509.BasicConstraints))
            .sign(self._key, hashes.SHA256())
        )


class Access:
    """`users`: passwords by name, for PLAIN and both kinds of SCRAM. Users in `may_all` need no ACL."""

    def __init__(self, directory: Path, users: Mapping[str, str], *, may_all: Sequence[str] = ()) -> None:
        self.authority = Authority(directory)
        self.users = dict(users)
        certificate, key = self.authority.issue("broker")
        both = directory / "broker-both.pem"
        both.write_bytes(key.read_bytes() + certificate.read_bytes())
        plain = " ".join(f'user_{name}="{password}"' for name, password in users.items())
        lines = {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.location": both,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": self.authority.certificate,
            "listener.name.ssl.ssl.client.auth": "requested",
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "super.users": ";".join(f"User:{name}" for name in ("ANONYMOUS", *may_all)),
        }
        for listener in ("sasl_plaintext", "sasl_ssl"):
            modules = {"plain": "plain.PlainLoginModule", "scram-sha-256": "scram.ScramLoginModule",
                       "scram-sha-512": "scram.ScramLoginModule"}  # fmt: skip
            for mechanism, module in modules.items():
                lines[f"listener.name.{listener}.{mechanism}.sasl.jaas.config"] = (
                    f"org.apache.kafka.common.security.{module} required {plain if mechanism == 'plain' else ''};"
                )
        self.settings = "".join(f"{name}={value}\n" for name, value in lines.items())
        # SCRAM passwords are part of the cluster's metadata, so they are set when it is formatted.
        self.at_format = [
            argument
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for name, password in users.items()
            for argument in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
