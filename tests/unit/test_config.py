"""Settings: what is read, and the sentence for what cannot be."""

from __future__ import annotations

import os
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.config import PREFIX, Settings, load, parse_size, unknown_variables
from streamhub.core.durations import parse_duration
from streamhub.errors import UserError

Set = Callable[..., None]


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Set:
    for name in Settings.model_fields:
        monkeypatch.delenv(PREFIX + name.upper(), raising=False)

    def set_(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(PREFIX + name, value)

    return set_


def test_without_any_variable_it_is_embedded_on_port_8080() -> None:
    settings = load()
    assert (settings.embedded, settings.host, settings.port) == (True, "127.0.0.1", 8080)


def test_the_defaults_are_those_of_the_contract() -> None:
    settings = load()
    assert settings.resume_window == timedelta(minutes=30)
    assert settings.stale_after == timedelta(seconds=5)
    assert settings.heartbeat_interval == timedelta(seconds=10)
    assert settings.replay_max_window == timedelta(days=7)
    assert settings.drain_time == timedelta(seconds=10)
    assert settings.resume_overlap == timedelta(seconds=10)
    assert settings.max_event_bytes == 16 * 1024 * 1024
    assert (settings.max_replays, settings.replay_queue_limit) == (4, 1000)
    assert (settings.retention, settings.cors_origins) == (None, ())


def test_the_environment_is_read(environment: Set) -> None:
    environment(PORT="9000", RETENTION="1d12h", MAX_EVENT_BYTES="64KiB", JWT_ISSUERS="https://a, https://b")
    settings = load()
    assert settings.port == 9000
    assert settings.retention == timedelta(hours=36)
    assert settings.max_event_bytes == 65536
    assert settings.jwt_issuers == ("https://a", "https://b")


def test_a_flag_wins_over_the_environment(environment: Set) -> None:
    environment(PORT="9000")
    assert load(port=9001, host=None).port == 9001


def test_an_empty_variable_counts_as_unset(environment: Set) -> None:
    environment(PORT="", DATABASE_URL="")
    assert load().port == 8080


def test_sources_are_names_with_urls(environment: Set) -> None:
    environment(SOURCE_URLS="shop=postgresql://h/shop  crm=postgresql://u:p@h:5433/crm?sslmode=require")
    assert load().source_urls == {
        "shop": "postgresql://h/shop",
        "crm": "postgresql://u:p@h:5433/crm?sslmode=require",
    }


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PORT", "abc"),
        ("PORT", "0"),
        ("PORT", "70000"),
        ("OPERATIONS_PORT", "-1"),
        ("DATABASE_URL", "mysql://h/d"),
        ("SOURCE_URLS", "postgresql://h/d"),
        ("SOURCE_URLS", "a=postgresql://h/d a=postgresql://h/e"),
        ("ROLES", "relay,cook"),
        ("RETENTION", "forever"),
        ("STALE_AFTER", "5"),
        ("STALE_AFTER", "0s"),
        ("HEARTBEAT_INTERVAL", "10 seconds"),
        ("MAX_EVENT_BYTES", "16 megs"),
        ("MAX_EVENT_BYTES", "0"),
        ("MAX_REPLAYS", "0"),
        ("JWT_JWKS_URL", "http://auth.example.com/keys"),
        ("JWT_PUBLIC_KEY_FILE", "/no/such/file.pem"),
        ("LOG_FORMAT", "xml"),
        ("RESUME_OVERLAP_ALWAYS", "sometimes"),
        ("CORS_ORIGINS", "app.example.com"),
        ("CORS_ORIGINS", "https://app.example.com/"),
        ("CORS_ORIGINS", "https://App.example.com"),
        ("CORS_ORIGINS", "https://app.example.com,null"),
    ],
)
def test_a_wrong_value_is_one_sentence_with_variable_value_and_a_right_example(
    environment: Set, name: str, value: str
) -> None:
    environment(**{name: value})
    with pytest.raises(UserError) as caught:
        load()
    sentence = str(caught.value)
    assert sentence.startswith(f"{PREFIX}{name} is {value!r}, which is not ")
    assert f"for example {PREFIX}{name}=" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize("name", list(Settings.model_fields))
def test_the_example_that_a_message_gives_is_a_right_one(environment: Set, name: str, tmp_path: Path) -> None:
    (example, *_) = Settings.model_fields[name].examples or [""]
    if name.endswith("_file") and name != "signing_key_file":
        example = str(tmp_path / "issuer.pem")
        Path(example).touch()
    environment(**{name.upper(): example})
    load()


def test_several_wrong_values_are_all_named(environment: Set) -> None:
    environment(PORT="x", STALE_AFTER="y")
    with pytest.raises(UserError, match=r"STREAMHUB_PORT.*STREAMHUB_STALE_AFTER"):
        load()


def test_a_password_is_not_shown(environment: Set) -> None:
    environment(DATABASE_URL="mysql://hub:hunter2@h/d")
    with pytest.raises(UserError) as caught:
        load()
    assert "hunter2" not in str(caught.value)


def test_the_port_that_kubernetes_sets_is_explained(environment: Set) -> None:
    environment(PORT="tcp://10.0.0.1:8080")
    with pytest.raises(UserError, match="enableServiceLinks: false"):
        load()


def test_an_external_database_without_issuer_and_key_refuses_to_serve(environment: Set) -> None:
    environment(DATABASE_URL="postgresql://h/d")
    with pytest.raises(UserError, match="STREAMHUB_JWT_ISSUERS"):
        load().require_verifiable_tokens()


def test_an_external_database_with_a_signing_key_is_development(environment: Set) -> None:
    environment(DATABASE_URL="postgresql://h/d", SIGNING_KEY_FILE="/tmp/key.pem")
    settings = load()
    settings.require_verifiable_tokens()
    assert settings.development_key_file == Path("/tmp/key.pem")


def test_in_production_there_is_no_development_key(environment: Set) -> None:
    environment(DATABASE_URL="postgresql://h/d", JWT_ISSUERS="https://a", JWT_JWKS_URL="https://a/keys")
    settings = load()
    settings.require_verifiable_tokens()
    assert settings.development_key_file is None


def test_embedded_mode_has_a_development_key_in_its_directory() -> None:
    assert load(data_dir=Path("/data")).development_key_file == Path("/data/signing_key.pem")


def test_a_user_without_a_home_has_a_data_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("XDG_DATA_HOME", raising=False)
    monkeypatch.setattr(os, "geteuid", lambda: 10001)
    monkeypatch.setattr(os, "getuid", lambda: 2**31 - 2)  # of no name, which is whose home Path.home looks for
    assert load().data_dir == Path("/var/lib/streamhub")


def test_issuers_without_keys_refuse_to_serve(environment: Set) -> None:
    environment(JWT_ISSUERS="https://a")
    with pytest.raises(UserError, match="STREAMHUB_JWT_JWKS_URL="):
        load().require_verifiable_tokens()


def test_keys_without_issuers_refuse_to_serve(environment: Set) -> None:
    environment(JWT_JWKS_URL="https://a/keys")
    with pytest.raises(UserError, match="STREAMHUB_JWT_ISSUERS="):
        load().require_verifiable_tokens()


def test_two_places_for_an_issuer_s_keys_refuse_to_serve_and_are_named(environment: Set, tmp_path: Path) -> None:
    (tmp_path / "issuer.pem").touch()
    environment(
        JWT_ISSUERS="https://a",
        JWT_JWKS_URL="https://hub:hunter2@a/keys",
        JWT_PUBLIC_KEY_FILE=str(tmp_path / "issuer.pem"),
    )
    with pytest.raises(UserError, match=r"JWT_JWKS_URL and STREAMHUB_JWT_PUBLIC_KEY_FILE are both set") as caught:
        load().require_verifiable_tokens()
    assert "hunter2" not in str(caught.value)


def test_a_misspelt_variable_is_named_with_the_nearest_right_one() -> None:
    assert unknown_variables({"STREAMHUB_PROT": "1", "PATH": "/bin", "STREAMHUB_PORT": "1"}) == [
        "STREAMHUB_PROT is not a setting; did you mean STREAMHUB_PORT?"
    ]


def test_variables_of_client_commands_are_no_mistakes() -> None:
    assert unknown_variables({"STREAMHUB_URL": "http://hub", "STREAMHUB_ORG": "my-org", "STREAMHUB_TOKEN": "t"}) == []


def test_what_the_package_itself_reads_is_no_mistake() -> None:
    assert unknown_variables({"STREAMHUB_COMPILED": "off"}) == []


@given(st.integers(0, 10**6), st.sampled_from([("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000)]))
def test_a_duration_is_a_number_and_its_unit(number: int, unit: tuple[str, int]) -> None:
    assert parse_duration(f"{number}{unit[0]}") == timedelta(milliseconds=number * unit[1])


@given(st.text(alphabet="0123456789smhd. -", max_size=8))
def test_a_duration_is_read_whole_or_refused(text: str) -> None:
    try:
        parse_duration(text)
    except ValueError:
        return
    assert all(part.isalnum() for part in text)
    assert text[-1].isalpha()


def test_a_duration_beyond_all_bounds_is_refused() -> None:
    with pytest.raises(ValueError, match="9"):
        parse_duration("9" * 30 + "d")


@pytest.mark.parametrize(("text", "size"), [("0", 0), ("512", 512), ("1kib", 1024), ("2 MiB", 2**21), ("1GB", 10**9)])
def test_sizes(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("value", ["postgresql://h:s3cret/d", "host=h password=s3cret", "postgresql://h/d?s3cret"])
def test_of_a_url_that_cannot_be_read_nothing_is_shown_that_may_be_a_secret(environment: Set, value: str) -> None:
    environment(DATABASE_URL=value)
    with pytest.raises(UserError, match=r"STREAMHUB_DATABASE_URL is .* not a PostgreSQL URL") as caught:
        load()
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("DATABASE_URL", "postgresql://u:p@h/d\n", "postgresql://u:p@h/d"),
        ("DATABASE_URL", "postgresql://u:p@h/d", "postgresql://u:p@h/d"),
        ("SOURCE_URLS", "shop=postgresql://h/s crm=postgresql://h/c\n",
         {"shop": "postgresql://h/s", "crm": "postgresql://h/c"}),
    ],
)  # fmt: skip
def test_a_secret_may_come_from_a_file(environment: Set, tmp_path: Path, name: str, text: str, value: object) -> None:
    (tmp_path / "secret").write_text(text)
    environment(**{f"{name}_FILE": str(tmp_path / "secret")})
    assert getattr(load(), name.lower()) == value
    assert unknown_variables({f"{PREFIX}{name}_FILE": "x"}) == []


def test_a_secret_that_is_given_and_in_a_file_is_refused(environment: Set, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("postgresql://h/d")
    environment(DATABASE_URL="postgresql://h/d", DATABASE_URL_FILE=str(tmp_path / "secret"))
    with pytest.raises(UserError, match="STREAMHUB_DATABASE_URL and STREAMHUB_DATABASE_URL_FILE are both set"):
        load()


def test_a_file_of_a_secret_that_cannot_be_read_is_named(environment: Set) -> None:
    environment(DATABASE_URL_FILE="/no/such/file")
    with pytest.raises(UserError, match="STREAMHUB_DATABASE_URL_FILE is '/no/such/file', which cannot be read"):
        load()


def test_a_wrong_secret_in_a_file_is_not_shown(environment: Set, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("mysql://hub:s3cret@h/d")
    environment(DATABASE_URL_FILE=str(tmp_path / "secret"))
    with pytest.raises(UserError, match="not a PostgreSQL URL") as caught:
        load()
    assert "s3cret" not in str(caught.value)
