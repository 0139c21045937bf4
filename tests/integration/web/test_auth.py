"""Tokens: who is let in, and how everybody else is told."""

import base64
import json
import time
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from streamhub.errors import UserError
from streamhub.web.auth import Authenticator, Issuer, PemKeys, bearer
from streamhub.web.problems import ApiError
from tests.integration.conftest import Hub

ISSUER = "https://issuer.example"
NOW = time.time()


def good(**changes: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": ISSUER, "iat": NOW, "exp": NOW + 60, "test": True, "scope": "a b",
        "organization": {"id": "org_1", "slug": "my-org", "enterprise": True},
        "application": {"id": "app", "kind": "integration", "client_id": "client"},
    }  # fmt: skip
    return {**claims, **changes}


def pem(key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


@pytest.fixture(scope="module")
def rsa_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="module")
def ec_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


@pytest.fixture(scope="module")
def authenticator(rsa_key: rsa.RSAPrivateKey, ec_key: ec.EllipticCurvePrivateKey) -> Authenticator:
    return Authenticator([Issuer(frozenset({ISSUER}), PemKeys(pem(rsa_key) + pem(ec_key), "both"))])


async def refused(authenticator: Authenticator, token: str) -> str:
    """The code of the refusal, which must not show the token."""
    with pytest.raises(ApiError) as error:
        await authenticator.verify(token, NOW)
    (fault,) = error.value.faults
    assert error.value.headers.get("WWW-Authenticate") == "Bearer"
    assert not token or token not in fault.detail
    return fault.code


def encoded(part: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()


@pytest.mark.parametrize("algorithm", ["RS256", "RS512", "ES256"])
async def test_a_good_token_is_read(authenticator: Authenticator, rsa_key: Any, ec_key: Any, algorithm: str) -> None:
    key = ec_key if algorithm == "ES256" else rsa_key
    claims = await authenticator.verify(jwt.encode(good(), key, algorithm=algorithm), NOW)
    assert (claims.organization_id, claims.slug, claims.enterprise) == ("org_1", "my-org", True)
    assert (claims.kind, claims.test, claims.scopes) == ("integration", True, frozenset({"a", "b"}))


@pytest.mark.parametrize("algorithm", ["RS384", "PS256", "PS512"])
async def test_other_algorithms_of_the_same_key_are_refused(
    authenticator: Authenticator, rsa_key: Any, algorithm: str
) -> None:
    assert await refused(authenticator, jwt.encode(good(), rsa_key, algorithm=algorithm)) == "INVALID_TOKEN"


async def test_a_token_without_signature_is_refused(authenticator: Authenticator) -> None:
    token = f"{encoded({'alg': 'none', 'typ': 'JWT'})}.{encoded(good())}."
    assert await refused(authenticator, token) == "INVALID_TOKEN"


@pytest.mark.parametrize("algorithm", ["HS256", "RS256", "ES256"])
async def test_a_signature_with_the_public_key_as_secret_is_refused(
    authenticator: Authenticator, rsa_key: Any, algorithm: str
) -> None:
    signed = f"{encoded({'alg': algorithm, 'typ': 'JWT'})}.{encoded(good())}"
    mac = hmac.HMAC(pem(rsa_key), hashes.SHA256())
    mac.update(signed.encode())
    signature = base64.urlsafe_b64encode(mac.finalize()).rstrip(b"=").decode()
    assert await refused(authenticator, f"{signed}.{signature}") == "INVALID_TOKEN"


async def test_a_key_that_the_token_brings_along_is_not_used(authenticator: Authenticator) -> None:
    mine = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    jwk = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(mine.public_key()))
    token = jwt.encode(good(), mine, algorithm="RS256", headers={"jwk": jwk, "jku": "http://evil.example/jwks"})
    assert await refused(authenticator, token) == "INVALID_TOKEN"


async def test_changed_claims_are_refused(authenticator: Authenticator, rsa_key: Any) -> None:
    header, _, signature = jwt.encode(good(), rsa_key, algorithm="RS256").split(".")
    assert await refused(authenticator, f"{header}.{encoded(good(test=False))}.{signature}") == "INVALID_TOKEN"


async def test_another_issuer_is_refused(authenticator: Authenticator, rsa_key: Any) -> None:
    token = jwt.encode(good(iss="https://other.example"), rsa_key, algorithm="RS256")
    assert await refused(authenticator, token) == "INVALID_TOKEN"


async def test_an_expired_token_is_told_apart(authenticator: Authenticator, rsa_key: Any) -> None:
    assert await refused(authenticator, jwt.encode(good(exp=NOW), rsa_key, algorithm="RS256")) == "EXPIRED_TOKEN"


async def test_an_expired_token_of_a_stranger_is_invalid_and_nothing_else(authenticator: Authenticator) -> None:
    mine = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    assert await refused(authenticator, jwt.encode(good(exp=NOW - 1), mine, algorithm="RS256")) == "INVALID_TOKEN"


async def test_a_token_before_its_time_is_refused(authenticator: Authenticator, rsa_key: Any) -> None:
    assert await refused(authenticator, jwt.encode(good(nbf=NOW + 5), rsa_key, algorithm="RS256")) == "INVALID_TOKEN"


async def test_an_issuer_whose_clock_is_ahead_is_accepted(authenticator: Authenticator, rsa_key: Any) -> None:
    await authenticator.verify(jwt.encode(good(iat=NOW + 5), rsa_key, algorithm="RS256"), NOW)


@pytest.mark.parametrize("claim", ["iss", "iat", "exp", "organization", "application", "test", "scope"])
async def test_a_missing_claim_is_refused(authenticator: Authenticator, rsa_key: Any, claim: str) -> None:
    claims = {name: value for name, value in good().items() if name != claim}
    assert await refused(authenticator, jwt.encode(claims, rsa_key, algorithm="RS256")) == "INVALID_TOKEN"


@pytest.mark.parametrize(
    "changes",
    [
        {"organization": {"slug": "my-org", "enterprise": True}},
        {"organization": {"id": "org_1", "enterprise": True}},
        {"organization": {"id": "org_1", "slug": "my-org"}},
        {"organization": {"id": 1, "slug": "my-org", "enterprise": True}},
        {"organization": {"id": "a\0b", "slug": "my-org", "enterprise": True}},
        {"organization": {"id": "", "slug": "my-org", "enterprise": True}},
        {"organization": {"id": "org_1", "slug": "my-org", "enterprise": "yes"}},
        {"organization": ["org_1"]},
        {"application": {"id": "app", "client_id": "client"}},
        {"test": "false"},
        {"exp": "tomorrow"},
        {"exp": True},
        {"scope": ["a"]},
    ],
)
async def test_a_claim_of_another_shape_is_refused(authenticator: Authenticator, rsa_key: Any, changes: Any) -> None:
    payload = json.dumps(good(**changes)).encode()
    token = jwt.api_jws.encode(payload, rsa_key, algorithm="RS256")
    assert await refused(authenticator, token) == "INVALID_TOKEN"


@pytest.mark.parametrize("text", ["x", "a.b", "a.b.c", "....", "ü.ü.ü", "eyJhbGciOiJSUzI1NiJ9.W10.AA", "e30.e30.AA"])
async def test_what_is_no_jwt_is_refused(authenticator: Authenticator, text: str) -> None:
    assert await refused(authenticator, text) == "INVALID_TOKEN"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ([], "MISSING_TOKEN"),
        (["Basic dXNlcjpwYXNz"], "MISSING_TOKEN"),
        (["Bearer"], "MISSING_TOKEN"),
        (["Bearer   "], "MISSING_TOKEN"),
        (["token"], "MISSING_TOKEN"),
        (["Bearer a", "Bearer b"], "INVALID_TOKEN"),
    ],
)
def test_without_a_bearer_token_there_is_none(headers: list[str], code: str) -> None:
    with pytest.raises(ApiError) as error:
        bearer(headers)
    assert error.value.faults[0].code == code


# -- for whom a token is, and when


def audience(rsa_key: Any, name: str | None, leeway: float = 0.0) -> Authenticator:
    return Authenticator([Issuer(frozenset({ISSUER}), PemKeys(pem(rsa_key), "key"))], name, leeway)


@pytest.mark.parametrize("aud", ["hub", ["hub"], ["other", "hub"]])
async def test_a_token_whose_audience_has_this_hub_s_name_is_good(rsa_key: Any, aud: Any) -> None:
    await audience(rsa_key, "hub").verify(jwt.encode(good(aud=aud), rsa_key, algorithm="RS256"), NOW)


@pytest.mark.parametrize("aud", ["other", "HUB", "hub/", "", [], ["other"], 5, [5], {"hub": 1}, [["hub"]], None])
async def test_a_token_for_somebody_else_is_refused(rsa_key: Any, aud: Any) -> None:
    token = jwt.api_jws.encode(json.dumps(good(aud=aud)).encode(), rsa_key, algorithm="RS256")
    assert await refused(audience(rsa_key, "hub"), token) == "INVALID_TOKEN"


async def test_a_token_without_an_audience_is_refused_where_one_is_set(rsa_key: Any) -> None:
    assert await refused(audience(rsa_key, "hub"), jwt.encode(good(), rsa_key, algorithm="RS256")) == "INVALID_TOKEN"


@pytest.mark.parametrize("aud", ["other", ["hub"], [], None])
async def test_without_a_name_of_its_own_a_hub_takes_no_token_with_an_audience_and_names_the_setting(
    rsa_key: Any, aud: Any
) -> None:
    token = jwt.api_jws.encode(json.dumps(good(aud=aud)).encode(), rsa_key, algorithm="RS256")
    with pytest.raises(ApiError, match="STREAMHUB_JWT_AUDIENCE") as error:
        await audience(rsa_key, None).verify(token, NOW)
    assert error.value.faults[0].code == "INVALID_TOKEN"


@pytest.mark.parametrize(("claim", "ahead"), [("exp", -1), ("nbf", 1)])
async def test_the_leeway_is_granted_to_the_second(rsa_key: Any, claim: str, ahead: int) -> None:
    within, beyond = (good(**{claim: NOW + ahead * seconds}) for seconds in (29, 31))
    authenticator = audience(rsa_key, None, leeway=30)
    await authenticator.verify(jwt.encode(within, rsa_key, algorithm="RS256"), NOW)
    with pytest.raises(ApiError):
        await authenticator.verify(jwt.encode(beyond, rsa_key, algorithm="RS256"), NOW)


async def test_a_stream_lasts_as_long_as_its_token_with_the_leeway(rsa_key: Any) -> None:
    token = jwt.encode(good(exp=NOW + 60), rsa_key, algorithm="RS256")
    assert (await audience(rsa_key, None, leeway=30).verify(token, NOW)).expires_at == NOW + 90


@pytest.mark.parametrize("crit", [["b64"], ["exp"], [], None, "b64", ["http://example.com/x"]])
async def test_critical_extensions_are_refused_by_their_name(rsa_key: Any, crit: Any) -> None:
    header = {"alg": "RS256", "typ": "JWT", "crit": crit, "b64": True}
    with pytest.raises(ApiError, match=r"critical extensions \(crit\)"):
        await audience(rsa_key, None).verify(f"{encoded(header)}.{encoded(good())}.AA", NOW)


def test_the_scheme_is_read_in_any_case() -> None:
    assert bearer(["bEARER  abc"]) == "abc"


@pytest.mark.parametrize("text", [b"", b"nonsense", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_a_file_without_a_good_key_is_refused_by_name(text: bytes) -> None:
    with pytest.raises(UserError, match=r"keys\.pem"):
        PemKeys(text, "keys.pem")


def test_a_short_rsa_key_is_refused() -> None:
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    with pytest.raises(UserError, match="1024"):
        PemKeys(pem(weak), "keys.pem")


# -- at the door


@pytest.mark.parametrize("path", ["/my-org", "/my-org/replay"])
@pytest.mark.parametrize(
    ("changes", "status", "code"),
    [
        ({"application__kind": "sales_channel"}, 401, "NOT_INTEGRATION"),
        ({"organization__slug": "other"}, 403, "ORGANIZATION_MISMATCH"),
        ({"organization__enterprise": False}, 403, "NOT_ENTERPRISE"),
        ({"exp": 1}, 401, "EXPIRED_TOKEN"),
        ({"iss": "https://other.example"}, 401, "INVALID_TOKEN"),
    ],
)
async def test_who_may_not_is_told_so(
    hub: Hub, organization: int, path: str, changes: Any, status: int, code: str
) -> None:
    answer = await hub.get(path, token=hub.token(**changes))
    assert (answer.status, answer.codes) == (status, [code])
    assert ("www-authenticate" in answer.headers) == (status == 401)


async def test_an_organization_registered_by_hand_under_another_slug_is_403_and_named(hub: Hub) -> None:
    await hub.history.register("org_1", "the-right-one")
    answer = await hub.get("/my-org")
    assert (answer.status, answer.codes) == (403, ["ORGANIZATION_MISMATCH"])
    assert "'the-right-one'" in answer.errors[0]["detail"]


async def test_a_token_in_the_query_string_is_not_taken(hub: Hub, organization: int, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    token = hub.token()
    client = await hub.open(f"/my-org?access_token={token}", token="x")
    assert (await client.answer()).codes == ["INVALID_TOKEN"]
    assert token not in caplog.text


async def test_no_token_is_logged(hub: Hub, organization: int, caplog: Any) -> None:
    caplog.set_level("DEBUG")
    token = hub.token()
    await hub.get("/my-org/replay?date_from=x", token=token)
    await hub.get("/my-org", token=token + "x")
    assert token not in caplog.text
