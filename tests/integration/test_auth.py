"""Tokens: who is let in, and how everybody else is told."""

import base64
import json
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives import hashes, hmac, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from streamhub.errors import ApiError, UserError
from streamhub.gateway.auth import Authenticator, Issuer, PemKeys, bearer
from streamhub.gateway.jwks import JwksKeys

ISSUER = "https://issuer.example"
NOW = time.time()

Hub = Any


def good(**changes: Any) -> dict[str, Any]:
    claims: dict[str, Any] = {
        "iss": ISSUER, "iat": NOW, "exp": NOW + 60, "test": True, "scope": "a b",
        "organization": {"id": "org_1", "slug": "my-org", "enterprise": True},
        "application": {"id": "app", "kind": "integration", "client_id": "client"},
    }  # fmt: skip
    return {**claims, **changes}


def pem(key: Any) -> bytes:
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
    assert (claims.kind, claims.test, claims.scopes) == ("integration", True, {"a", "b"})


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


# -- JWKS


class Issuing:
    """An issuer's JWKS on loopback."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.asked = 0
        self.status = 200

    def add(self, kid: str) -> rsa.RSAPrivateKey:
        self.keys[kid] = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        return self.keys[kid]

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        entries = [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        entries += [
            {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"s" * 32).decode()},
            {"kty": "what", "kid": "odd"},
        ]
        return web.json_response({"keys": entries}, status=self.status)


@pytest.fixture
async def issuing() -> AsyncIterator[tuple[Issuing, str]]:
    issuing = Issuing()
    app = web.Application()
    app.router.add_get("/jwks", issuing.answer)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield issuing, f"http://127.0.0.1:{runner.addresses[0][1]}/jwks"
    await runner.cleanup()


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def of_jwks(url: str, clock: Callable[[], float]) -> Authenticator:
    return Authenticator([Issuer(frozenset({ISSUER}), JwksKeys(url, clock))])


async def test_a_key_of_the_jwks_verifies_and_is_fetched_once(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    token = jwt.encode(good(), server.add("one"), algorithm="RS512", headers={"kid": "one"})
    authenticator = of_jwks(url, Clock())
    for _ in range(3):
        await authenticator.verify(token, NOW)
    assert server.asked == 1


async def test_a_key_that_came_later_is_fetched_when_a_token_names_it(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    clock = Clock()
    authenticator = of_jwks(url, clock)
    await authenticator.verify(jwt.encode(good(), server.add("one"), "RS256", headers={"kid": "one"}), NOW)
    clock.now += 11
    await authenticator.verify(jwt.encode(good(), server.add("two"), "RS256", headers={"kid": "two"}), NOW)
    assert server.asked == 2


async def test_unknown_keys_make_it_ask_no_more_than_every_ten_seconds(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    key = server.add("one")
    authenticator = of_jwks(url, Clock())
    for n in range(5):
        assert (
            await refused(authenticator, jwt.encode(good(), key, "RS256", headers={"kid": f"x{n}"})) == "INVALID_TOKEN"
        )
    assert server.asked == 1


async def test_a_token_that_names_no_key_is_refused(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    assert await refused(of_jwks(url, Clock()), jwt.encode(good(), server.add("one"), "RS256")) == "INVALID_TOKEN"


async def test_an_unknown_key_while_the_jwks_is_out_of_reach_is_503(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    server.status = 500
    with pytest.raises(ApiError) as error:
        await of_jwks(url, Clock()).verify(jwt.encode(good(), server.add("one"), "RS256", headers={"kid": "one"}), NOW)
    assert (error.value.status, error.value.faults[0].code) == (503, "UNAVAILABLE")
    assert "Retry-After" in error.value.headers


async def test_a_known_key_goes_on_while_the_jwks_is_out_of_reach(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    clock = Clock()
    token = jwt.encode(good(), server.add("one"), "RS256", headers={"kid": "one"})
    authenticator = of_jwks(url, clock)
    await authenticator.verify(token, NOW)
    server.status = 500
    clock.now += 3_600
    await authenticator.verify(token, NOW)


async def test_a_key_that_was_withdrawn_is_refused_after_a_while(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    clock = Clock()
    token = jwt.encode(good(), server.add("one"), "RS256", headers={"kid": "one"})
    authenticator = of_jwks(url, clock)
    await authenticator.verify(token, NOW)
    server.keys.clear()
    clock.now += 3_600
    assert await refused(authenticator, token) == "INVALID_TOKEN"


async def test_a_symmetric_key_of_the_jwks_is_never_used(issuing: tuple[Issuing, str]) -> None:
    _, url = issuing
    token = jwt.encode(good(), b"s" * 32, "HS256", headers={"kid": "secret"})
    assert await refused(of_jwks(url, Clock()), token) == "INVALID_TOKEN"


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
