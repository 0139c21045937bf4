"""The development key and what it signs."""

from __future__ import annotations

import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import jwt
import pytest

from streamhub.errors import UserError
from streamhub.organizations import Organization
from streamhub.tokens import ISSUER, DevelopmentKey, claims_for

ORGANIZATION = Organization(1, "org_1", "my-org", False, True)
NOW = datetime(2026, 11, 22, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("key") / "signing_key.pem"
    DevelopmentKey.load_or_create(path)
    return path


def test_the_key_is_made_once(key_file: Path) -> None:
    assert DevelopmentKey.load_or_create(key_file).public_pem == DevelopmentKey.load_or_create(key_file).public_pem


def test_only_its_owner_may_read_the_key(key_file: Path) -> None:
    assert stat.S_IMODE(key_file.stat().st_mode) == 0o600


def test_the_directory_is_made(tmp_path: Path) -> None:
    DevelopmentKey.load_or_create(tmp_path / "a" / "b" / "key.pem")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["key.pem"]


def test_several_processes_at_once_get_the_same_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as threads:
        keys = list(threads.map(lambda _: DevelopmentKey.load_or_create(tmp_path / "key.pem").public_pem, range(4)))
    assert len(set(keys)) == 1


def test_a_token_is_rs512_with_a_kid_and_verifies_with_the_public_key(key_file: Path) -> None:
    key = DevelopmentKey.load_or_create(key_file)
    token = key.sign({"exp": 2**33})
    assert jwt.get_unverified_header(token) == {"alg": "RS512", "typ": "JWT", "kid": key.kid}
    assert jwt.decode(token, key.public_pem, algorithms=["RS512"], issuer=ISSUER) == {"iss": ISSUER, "exp": 2**33}


def test_the_claims_are_those_of_the_contract() -> None:
    assert claims_for(ORGANIZATION, now=NOW, ttl=timedelta(hours=2), test=True, scope=["events:read", "x"]) == {
        "iat": 1795341600,
        "exp": 1795341600 + 7200,
        "organization": {"id": "org_1", "slug": "my-org", "enterprise": True},
        "application": {"id": "development", "kind": "integration", "client_id": "streamhub-cli"},
        "test": True,
        "scope": "events:read x",
    }


def test_a_file_that_is_no_key_is_named(tmp_path: Path) -> None:
    path = tmp_path / "key.pem"
    path.write_text("hello")
    with pytest.raises(UserError, match=str(path)):
        DevelopmentKey.load_or_create(path)


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="STREAMHUB_SIGNING_KEY_FILE="):
        DevelopmentKey.load_or_create(tmp_path / "file" / "key.pem")
