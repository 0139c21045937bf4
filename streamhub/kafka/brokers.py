"""The brokers, how to come in, and what it means where one refuses us: one sentence, wherever it is told.

aiokafka says of a broker that it could not be reached, whatever the reason was. So where nothing lets us in, each
broker is tried once more by hand, for the reason.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple

from aiokafka.conn import create_conn
from aiokafka.errors import (
    AuthenticationFailedError,
    AuthenticationMethodNotSupported,
    ClusterAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from streamhub.config import PREFIX, Settings
from streamhub.errors import UserError

ANSWERED_WITHIN: Final = 3.0  # seconds, when it is tried for the reason

NOT_ALLOWED: Final = (TopicAuthorizationFailedError, ClusterAuthorizationFailedError)


class AwayError(Exception):
    """No broker answers; the message says where."""


class RefusedError(AwayError):
    """A broker answers and refuses us; the message says which, why, and by which setting."""


class Brokers(NamedTuple):
    """`bootstrap` is host:port of one or several; the rest is as in the settings of these names."""

    bootstrap: Sequence[str]
    protocol: str = "PLAINTEXT"
    mechanism: str = "PLAIN"
    username: str | None = None
    password: str | None = None
    tls: ssl.SSLContext | None = None

    @classmethod
    def of(cls, settings: Settings) -> "Brokers":
        """Raises UserError where a file is not what it has to be."""
        protocol = settings.kafka_security_protocol
        return cls(
            settings.kafka_bootstrap_servers,
            protocol,
            settings.kafka_sasl_mechanism or "PLAIN",
            settings.kafka_sasl_username,
            settings.kafka_sasl_password,
            _context(settings) if protocol in ("SSL", "SASL_SSL") else None,
        )

    def __str__(self) -> str:
        return ", ".join(self.bootstrap)

    def __repr__(self) -> str:
        return f"Brokers({self})"  # without the password

    @property
    def options(self) -> dict[str, Any]:
        """What any client of aiokafka takes."""
        return {"bootstrap_servers": list(self.bootstrap), **self._access}

    @property
    def _access(self) -> dict[str, Any]:
        return {
            "security_protocol": self.protocol,
            "ssl_context": self.tls,
            "sasl_mechanism": self.mechanism,
            "sasl_plain_username": self.username,
            "sasl_plain_password": self.password,
        }

    @property
    def us(self) -> str:
        """Who we are to a broker."""
        if self.username is not None:
            return f"the user {self.username!r} ({PREFIX}KAFKA_SASL_USERNAME)"
        return f"this client ({PREFIX}KAFKA_SECURITY_PROTOCOL is {self.protocol})"

    def not_allowed(self, what: str, right: str) -> str:
        """The sentence for a missing right; `right` completes "grant it … "."""
        return f"the brokers at {self} do not let {self.us} {what}: grant it {right}"

    @asynccontextmanager
    async def reached(self) -> AsyncIterator[None]:
        """Say in a sentence that no broker answers, or why it refuses. Raises AwayError or RefusedError."""
        try:
            yield
        except (KafkaConnectionError, TimeoutError):
            raise await self.why_away() from None

    async def why_away(self) -> AwayError:
        """A broker that refuses us tells more than others that are away."""
        found = await asyncio.gather(*(self._refusal(broker) for broker in self.bootstrap))
        refusals = [each for each in found if each]
        if refusals:
            return RefusedError(refusals[0])
        return AwayError(f"the brokers at {self} are slow to answer" if "" in found else f"no broker answers at {self}")

    async def _refusal(self, broker: str) -> str | None:
        """Why this broker refuses us; an empty text where it lets us in, None where it is away."""
        host, _, port = broker.rpartition(":")
        try:
            async with asyncio.timeout(ANSWERED_WITHIN):
                connection = await create_conn(
                    host.strip("[]"), int(port), request_timeout_ms=int(ANSWERED_WITHIN * 1000), **self._access
                )
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except Exception as error:  # noqa: BLE001 - aiokafka raises ValueError and others for what brokers send
            return self._sentence(broker, error)
        return ""

    def _sentence(self, broker: str, error: Exception) -> str | None:
        protocol = f"{PREFIX}KAFKA_SECURITY_PROTOCOL is {self.protocol}"
        match error:
            case AuthenticationFailedError() | SaslAuthenticationFailed():
                return (
                    f"the broker at {broker} refuses {self.us}: the name or the password is wrong, or {self.mechanism} "
                    f"is not set up for it (see {PREFIX}KAFKA_SASL_PASSWORD, {PREFIX}KAFKA_SASL_MECHANISM)"
                )
            case UnsupportedSaslMechanismError() | AuthenticationMethodNotSupported():
                return f"the broker at {broker} does not offer {self.mechanism} ({PREFIX}KAFKA_SASL_MECHANISM)"
            case ssl.SSLCertVerificationError():
                return (
                    f"the certificate of the broker at {broker} is not trusted: {error.verify_message} "
                    f"({PREFIX}KAFKA_SSL_CA_FILE)"
                )
            case ssl.SSLError() if "ALERT" in (error.reason or "") and "CERT" in (error.reason or ""):
                return f"the broker at {broker} does not take our certificate ({PREFIX}KAFKA_SSL_CERT_FILE)"
            case ssl.SSLError():
                return f"the broker at {broker} does not speak TLS with us ({error.reason}); {protocol}"
            case IllegalSaslStateError():
                return f"the broker at {broker} expects no SASL; {protocol}"
            case ValueError():
                return f"the broker at {broker} does not know our password: {error} ({PREFIX}KAFKA_SASL_PASSWORD)"
            case KafkaConnectionError() | EOFError() | ConnectionResetError():
                certificate = f", or it asks for another certificate ({PREFIX}KAFKA_SSL_CERT_FILE)" if self.tls else ""
                return (
                    f"the broker at {broker} ends our connections: {protocol}, its listener's is another{certificate}"
                )
            case OSError() | TimeoutError():
                return None
            case KafkaError():
                return f"the broker at {broker} refuses us ({type(error).__name__}: {error})"
        return f"the broker at {broker} is no Kafka broker that we understand ({type(error).__name__})"


def _context(settings: Settings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.kafka_ssl_ca_file)
    except (ssl.SSLError, OSError) as error:
        raise _unusable("CA", settings.kafka_ssl_ca_file, "holds no certificate of a CA in PEM", error) from None
    certificate, key = settings.kafka_ssl_cert_file, settings.kafka_ssl_key_file
    if certificate is not None:
        try:
            # A key with a password would be asked for at the terminal.
            context.load_cert_chain(certificate, key, password=lambda: "")
        except (ssl.SSLError, OSError) as error:
            what = (
                f"is not the certificate, in PEM, of the unencrypted key in {PREFIX}KAFKA_SSL_KEY_FILE ({str(key)!r})"
            )
            raise _unusable("CERT", certificate, what, error) from None
    return context


def _unusable(name: str, file: Path | None, what: str, error: OSError) -> UserError:
    reason = (isinstance(error, ssl.SSLError) and error.reason) or error.strerror or type(error).__name__
    examples = {"CA": "/etc/ssl/certs/ca-certificates.crt", "CERT": "/etc/streamhub/kafka.pem"}
    variable = f"{PREFIX}KAFKA_SSL_{name}_FILE"
    return UserError(f"{variable} is {str(file)!r}, which {what} ({reason}): for example {variable}={examples[name]}")
