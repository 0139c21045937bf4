"""Keys from an issuer's JWKS: which count, how long, and what an issuer that hangs or errs does to whom."""

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import aiohttp
import jwt
import pytest
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pytest_aiohttp.plugin import AiohttpServer

from streamhub.config import load
from streamhub.health.doctor import examine
from streamhub.health.findings import Finding
from streamhub.web import jwks
from streamhub.web.auth import Authenticator, Issuer
from streamhub.web.jwks import JwksError, JwksKeys, read
from streamhub.web.problems import ApiError
from tests.integration.web.test_auth import ISSUER, NOW, good, refused
from tests.support.stage import until

SECRET = "s3cret-of-the-url"


@cache
def an_rsa_key_of(name: str, size: int = 2048) -> rsa.RSAPrivateKey:
    """The same one for the same name: making one takes long."""
    return rsa.generate_private_key(public_exponent=65537, key_size=size)


class Issuing:
    """An issuer's JWKS on loopback."""

    def __init__(self) -> None:
        self.keys: dict[str, rsa.RSAPrivateKey] = {}
        self.asked = 0
        self.status = 200
        self.more: list[Any] = []
        self.answers = asyncio.Event()
        self.answers.set()

    def add(self, kid: str) -> rsa.RSAPrivateKey:
        self.keys[kid] = an_rsa_key_of(kid)
        return self.keys[kid]

    async def answer(self, _request: web.Request) -> web.Response:
        self.asked += 1
        await self.answers.wait()
        entries = [
            {**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": kid, "use": "sig"}
            for kid, key in self.keys.items()
        ]
        entries += [
            {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"s" * 32).decode()},
            {"kty": "what", "kid": "odd"},
            *self.more,
        ]
        return web.json_response({"keys": entries}, status=self.status, headers={"Location": "/elsewhere"})


@pytest.fixture
async def issuing(aiohttp_server: AiohttpServer) -> tuple[Issuing, str]:
    issuing = Issuing()
    app = web.Application()
    app.router.add_get("/jwks", issuing.answer)
    server = await aiohttp_server(app)
    return issuing, str(server.make_url("/jwks"))


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
    token = signed(server, "one")
    async with running(JwksKeys(url, kept=0.05)) as authenticator:
        await authenticator.verify(token, NOW)
        server.keys.clear()
        await until(lambda: _is_refused(authenticator, token), "the key is withdrawn here, too")
        assert await refused(authenticator, token) == "INVALID_TOKEN"


async def _is_refused(authenticator: Authenticator, token: str) -> bool:
    try:
        await authenticator.verify(token, NOW)
    except ApiError:
        return True
    return False


async def test_a_symmetric_key_of_the_jwks_is_never_used(issuing: tuple[Issuing, str]) -> None:
    _, url = issuing
    token = jwt.encode(good(), b"s" * 32, "HS256", headers={"kid": "secret"})
    assert await refused(of_jwks(url, Clock()), token) == "INVALID_TOKEN"


def signed(server: Issuing, kid: str, algorithm: str = "RS256") -> str:
    key = server.keys.get(kid) or server.add(kid)
    return jwt.encode(good(), key, algorithm, headers={"kid": kid})


@asynccontextmanager
async def running(keys: JwksKeys) -> AsyncIterator[Authenticator]:
    authenticator = Authenticator([Issuer(frozenset({ISSUER}), keys)])
    authenticator.start()
    yield authenticator
    await authenticator.stop()


async def test_an_issuer_that_hangs_holds_no_request_whose_key_is_known(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    token = signed(server, "one")
    async with running(JwksKeys(url, kept=0.01)) as authenticator:
        await authenticator.verify(token, NOW)
        server.answers.clear()
        asked = server.asked
        await until(lambda: _more_than(server, asked), "a read hangs")
        async with asyncio.timeout(0.5):
            for _ in range(20):
                await authenticator.verify(token, NOW)
        server.answers.set()


async def _more_than(server: Issuing, asked: int) -> bool:
    return server.asked > asked


async def test_an_unknown_key_that_is_asked_for_while_the_issuer_hangs_is_503_for_all_within_one_time_out(
    issuing: tuple[Issuing, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jwks, "TIMEOUT", 0.3)
    server, url = issuing
    tokens = [signed(server, f"key {n}") for n in range(5)]
    server.answers.clear()
    authenticator = of_jwks(url, Clock())
    answers = await asyncio.gather(*(authenticator.verify(token, NOW) for token in tokens), return_exceptions=True)
    assert [isinstance(answer, ApiError) and answer.status for answer in answers] == [503] * 5
    assert server.asked == 1
    server.answers.set()


async def test_a_hub_reads_the_keys_before_the_first_token_comes(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    token = signed(server, "one")
    async with running(JwksKeys(url, Clock())) as authenticator:
        await until(lambda: _more_than(server, 0), "they are read")
        await authenticator.verify(token, NOW)
    assert server.asked == 1


async def test_a_key_for_another_algorithm_than_the_token_s_is_named(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    key = an_rsa_key_of("one")
    server.more = [{**json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key())), "kid": "a", "alg": "RS512"}]
    with pytest.raises(ApiError) as error:
        await of_jwks(url, Clock()).verify(jwt.encode(good(), key, "RS256", headers={"kid": "a"}), NOW)
    (fault,) = error.value.faults
    assert fault.code == "INVALID_TOKEN"
    assert "algorithm is RS256" in fault.detail
    assert "for RS512" in fault.detail


async def test_a_key_of_another_kind_than_the_token_s_algorithm_is_named(issuing: tuple[Issuing, str]) -> None:
    server, url = issuing
    server.add("a")
    token = jwt.encode(good(), ec.generate_private_key(ec.SECP256R1()), "ES256", headers={"kid": "a"})
    with pytest.raises(ApiError) as error:
        await of_jwks(url, Clock()).verify(token, NOW)
    assert "ES256" in error.value.faults[0].detail
    assert "an RSA key" in error.value.faults[0].detail


def an_rsa_key(size: int = 2048) -> dict[str, Any]:
    key = an_rsa_key_of("one", size)
    entry: dict[str, Any] = json.loads(jwt.algorithms.RSAAlgorithm.to_jwk(key.public_key()))
    return {**entry, "kid": "x"}


LEFT_OUT = {
    "has no name": {**an_rsa_key(), "kid": None},
    "another use (enc)": {**an_rsa_key(), "use": "enc"},
    "not for verifying": {**an_rsa_key(), "key_ops": ["sign"]},
    "is for PS256": {**an_rsa_key(), "alg": "PS256"},
    "1024 bits": an_rsa_key(1024),
    "does not go with": {**an_rsa_key(), "alg": "ES256"},
    "is a private key": {**an_rsa_key(), "d": "AQAB"},
    "is no object": 5,
    "of kind OKP": {"kty": "OKP", "kid": "x", "crv": "Ed25519", "x": "AA"},
    "Invalid curve: P-999": {"kty": "EC", "kid": "x", "crv": "P-999", "x": "AA", "y": "AA"},
}


@pytest.mark.parametrize(("reason", "entry"), LEFT_OUT.items())
async def test_a_key_that_is_left_out_is_logged_once_with_its_reason(
    issuing: tuple[Issuing, str], caplog: pytest.LogCaptureFixture, reason: str, entry: Any
) -> None:
    server, url = issuing
    server.more = [entry]
    token = signed(server, "one")
    async with running(JwksKeys(url, kept=0.01)) as authenticator:
        await authenticator.verify(token, NOW)
        await until(lambda: _more_than(server, 3), "it is read again and again")
    assert len([line for line in caplog.messages if reason in line]) == 1


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["keys", "kty", "kid", "n", "e", "x", "y", "crv", "alg", "use", "key_ops", "d"]), inner
            )
        ),
        max_leaves=12,
    ),
    st.sampled_from(["RSA", "EC", "oct"]),
)
@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_entry_whatever_it_is_is_more_than_left_out(entry: Any, kind: str) -> None:
    entries = [entry, {**entry, "kty": kind, "kid": "x"} if isinstance(entry, dict) else entry]
    for each in entries:
        try:
            jwks._key(each)
        except ValueError as error:
            assert str(error)  # noqa: PT017 - either comes about


# -- the one reader


Answer = Callable[[web.Request], web.StreamResponse]
Answering = Callable[[Answer], Awaitable[str]]


@pytest.fixture
def answering(aiohttp_server: AiohttpServer) -> Answering:
    """Start an issuer that answers so; its URL, with secrets in it."""

    async def start(answer: Answer) -> str:
        async def respond(request: web.Request) -> web.StreamResponse:
            return answer(request)

        app = web.Application()
        app.router.add_get("/jwks", respond)
        server = await aiohttp_server(app)
        return f"http://user:{SECRET}@127.0.0.1:{server.port}/jwks?key={SECRET}"

    return start


FAULTY: dict[str, Answer] = {
    "redirects are not followed": lambda request: web.Response(status=302, headers={"Location": str(request.url)}),
    "answers 500": lambda _: web.Response(status=500),
    "is no JSON": lambda _: web.Response(text="<html>"),
    "is no key set": lambda _: web.json_response({"key": []}),
    "is no key set: an object": lambda _: web.json_response([]),
    "is larger than": lambda _: web.Response(body=b" " * (jwks.LARGEST + 1)),
}


@pytest.mark.parametrize(("what", "answer"), FAULTY.items())
async def test_what_is_no_key_set_is_told_without_the_url_s_secrets(
    answering: Answering, what: str, answer: Answer, caplog: pytest.LogCaptureFixture
) -> None:
    url = await answering(answer)
    with pytest.raises(JwksError, match=what):
        await read(url)
    with caplog.at_level(logging.WARNING, "streamhub.web.jwks"):
        async with running(JwksKeys(url)) as authenticator:
            with pytest.raises(ApiError):
                await authenticator.verify(jwt.encode(good(), "x" * 32, "HS256", headers={"kid": "a"}), NOW)
            await until(lambda: _logged(caplog, what), "it is logged")
    assert SECRET not in caplog.text


async def _logged(caplog: pytest.LogCaptureFixture, what: str) -> bool:
    return what in caplog.text


async def test_a_compressed_answer_is_not_unpacked(answering: Answering) -> None:
    def compressed(request: web.Request) -> web.StreamResponse:
        response = web.json_response({"keys": [an_rsa_key()]})
        response.headers["Content-Encoding"] = "gzip"
        response.enable_compression(web.ContentCoding.gzip)
        return response

    url = await answering(compressed)
    with pytest.raises(JwksError, match="is no JSON"):
        await read(url)


async def test_the_user_of_the_url_is_sent_to_the_issuer(answering: Answering) -> None:
    def answer(request: web.Request) -> web.StreamResponse:
        asked = aiohttp.BasicAuth.decode(request.headers["Authorization"])
        return web.json_response({"keys": [an_rsa_key()]}, status=200 if asked.password == SECRET else 401)

    assert list((await read(await answering(answer))).keys) == ["x"]


async def of_doctor(database_url: str, url: str) -> list[Finding]:
    settings = load(database_url=database_url, jwt_jwks_url=url, jwt_issuers=[ISSUER])
    return [finding for finding in await examine(settings) if finding.check == "keys"]


@pytest.mark.parametrize(
    ("state", "what", "answer"),
    [
        *(("fail", what, answer) for what, answer in FAULTY.items()),
        ("fail", "has no key that can be used", lambda _: web.json_response({"keys": []})),
        ("fail", "has no key that can be used", lambda _: web.json_response({"keys": [LEFT_OUT["1024 bits"]]})),
        ("ok", "has 1 keys that can be used", lambda _: web.json_response({"keys": [an_rsa_key(), 5]})),
    ],
)
async def test_doctor_reads_the_keys_as_the_gateway_does(
    answering: Answering, database_url: str, state: str, what: str, answer: Answer
) -> None:
    first, *_ = found = await of_doctor(database_url, await answering(answer))
    assert (first.state, what in first.detail) == (state, True)
    assert not any(SECRET in text for finding in found for text in finding)


async def test_doctor_names_each_key_that_is_left_out(answering: Answering, database_url: str) -> None:
    url = await answering(lambda _: web.json_response({"keys": list(LEFT_OUT.values())}))
    found = await of_doctor(database_url, url)
    for reason in LEFT_OUT:
        assert len([finding for finding in found if reason in finding.detail]) == 1
