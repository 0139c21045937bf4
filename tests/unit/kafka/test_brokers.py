"""How brokers are reached: which settings go together, and the sentence for what does not."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from servers.access import Authority
from streamhub.config import PREFIX, Settings, load
from streamhub.errors import UserError
from streamhub.kafka.brokers import Brokers

PASSWORD = "hunter2-of-kafka"
PROTOCOLS = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
USER = {
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "hub",
    "KAFKA_SASL_PASSWORD": PASSWORD,
}

Set = Callable[[Mapping[str, str]], None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)

    def set_(variables: Mapping[str, str]) -> None:
        for name, value in {"KAFKA_BOOTSTRAP_SERVERS": "k:9092", **variables}.items():
            monkeypatch.setenv(PREFIX + name, value)

    return set_


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    authority = Authority(tmp_path)
    certificate, key = authority.issue("hub")
    return {
        "KAFKA_SSL_CA_FILE": str(authority.certificate),
        "KAFKA_SSL_CERT_FILE": str(certificate),
        "KAFKA_SSL_KEY_FILE": str(key),
    }


def refused(sentence: str) -> bool:
    """One sentence, with a right example, without the password."""
    assert "\n" not in sentence
    assert f"for example {PREFIX}KAFKA_" in sentence
    assert PASSWORD not in sentence
    return True


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("given", [set(each) for n in range(4) for each in itertools.combinations(USER, n)])
def test_user_and_password_go_with_sasl_all_three_or_none(environment: Set, protocol: str, given: set[str]) -> None:
    environment({"KAFKA_SECURITY_PROTOCOL": protocol, **{name: USER[name] for name in given}})
    if given == (set(USER) if protocol.startswith("SASL_") else set()):
        Brokers.of(load())
        return
    with pytest.raises(UserError) as caught:
        load()
    sentence = str(caught.value)
    assert refused(sentence)
    assert any(sentence.startswith(PREFIX + name) for name in USER)
    assert repr(protocol) in sentence


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("which", ["", "CA", "CERT", "KEY", "CA CERT", "CERT KEY", "CA CERT KEY"])
def test_certificates_go_with_tls_and_a_certificate_with_its_key(
    environment: Set, files: dict[str, str], protocol: str, which: str
) -> None:
    given = {f"KAFKA_SSL_{name}_FILE" for name in which.split()}
    user = USER if protocol.startswith("SASL_") else {}
    environment({"KAFKA_SECURITY_PROTOCOL": protocol, **user, **{name: files[name] for name in given}})
    together = ("CERT" in which) == ("KEY" in which) and (not given or protocol.endswith("SSL"))
    if together:
        Brokers.of(load())
        return
    with pytest.raises(UserError) as caught:
        load()
    assert refused(str(caught.value))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("KAFKA_SECURITY_PROTOCOL", "TLS"),
        ("KAFKA_SECURITY_PROTOCOL", "sasl_ssl"),
        ("KAFKA_SASL_MECHANISM", "GSSAPI"),
        ("KAFKA_SSL_CA_FILE", "/nowhere/ca.pem"),
        ("KAFKA_SSL_CERT_FILE", "/nowhere/hub.pem"),
        ("KAFKA_SSL_KEY_FILE", "/nowhere/hub.key"),
    ],
)
def test_a_wrong_value_is_named_with_a_right_one(environment: Set, name: str, value: str) -> None:
    environment({name: value})
    with pytest.raises(UserError, match=rf"{PREFIX}{name} is '{value}'.*for example {PREFIX}{name}="):
        load()


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
@pytest.mark.parametrize("name", ["KAFKA_SSL_CA_FILE", "KAFKA_SSL_CERT_FILE", "KAFKA_SSL_KEY_FILE"])
def test_a_file_that_holds_something_else_is_named(
    environment: Set, files: dict[str, str], name: str, text: bytes
) -> None:
    Path(files[name]).write_bytes(text)
    environment({"KAFKA_SECURITY_PROTOCOL": "SSL", **files})
    with pytest.raises(UserError, match=PREFIX + name) as caught:
        Brokers.of(load())
    assert refused(str(caught.value))
    assert files[name] in str(caught.value)


def test_a_key_of_another_certificate_is_named(environment: Set, files: dict[str, str], tmp_path: Path) -> None:
    _, other = Authority(tmp_path, "another").issue("other")
    environment({"KAFKA_SECURITY_PROTOCOL": "SSL", **files, "KAFKA_SSL_KEY_FILE": str(other)})
    with pytest.raises(UserError, match=r"KAFKA_SSL_CERT_FILE .*KAFKA_SSL_KEY_FILE"):
        Brokers.of(load())


def test_where_no_broker_is_named_the_rest_is_not_judged(environment: Set) -> None:
    environment({"KAFKA_BOOTSTRAP_SERVERS": "", "KAFKA_SECURITY_PROTOCOL": "SASL_SSL"})
    assert load().publication_topic is None


def test_no_password_is_in_what_is_shown_of_the_settings(environment: Set) -> None:
    environment({"KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT", **USER})
    settings = load()
    assert PASSWORD not in repr(settings) + repr(Brokers.of(settings)) + str(Brokers.of(settings))
