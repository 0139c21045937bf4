"""Requests that are wrong in every way we could think of, from a seeded chance; none of them may open a stream."""

import base64
import json
import random
import string
from collections.abc import Callable
from typing import Final, NamedTuple

METHODS: Final = ("GET", "DELETE", "HEAD", "POST", "PUT", "PATCH", "OPTIONS", "TRACE", "CONNECT", "QUERY")
PATHS: Final = ("/org-0", "/org-0/status", "/org-0/replay", "/org-0/replays", "/org-0/replays/1", "/other", "/-", "/")
PARAMETERS: Final = (
    "date_from", "date_to", "resource_type_eq", "resource_id_in", "types", "envelope", "last_event_id", "access_token",
)  # fmt: skip


class Malformed(NamedTuple):
    """`kind` for messages; `secrets` are what may be in no log."""

    kind: str
    request: bytes
    secrets: tuple[str, ...] = ()


class Generator:
    """`token` is a good one: most faults are only seen behind it. The others are signed well, too."""

    def __init__(self, seed: int, token: str, expired: str, foreign: str) -> None:
        self._chance = random.Random(seed)
        self._token = token
        self._spoilt = (expired, foreign)
        self._kinds: tuple[Callable[[], Malformed], ...] = (
            self._noise, self._mutated, self._huge_header, self._many_headers, self._method, self._path,
            self._parameters, self._last_event_id, self._token_of_noise, self._token_unsigned, self._token_tampered,
            self._token_elsewhere, self._authorization, self._body,
        )  # fmt: skip

    def next(self) -> Malformed:
        return self._chance.choice(self._kinds)()

    # -- pieces

    def _bytes(self, most: int) -> bytes:
        return self._chance.randbytes(self._chance.randint(1, most))

    def _word(self, most: int = 12) -> str:
        return "".join(
            self._chance.choices(string.ascii_letters + string.digits + "_-.~", k=self._chance.randint(1, most))
        )

    def _quoted(self, most: int) -> str:
        """Any bytes as they may stand in a URL."""
        return "".join(
            f"%{byte:02x}" if self._chance.random() < 0.7 else chr(97 + byte % 26) for byte in self._bytes(most)
        )

    def _request(self, target: str, *headers: str | bytes, method: str = "GET", token: str | None = None) -> bytes:
        lines: list[str | bytes] = [f"{method} {target} HTTP/1.1", "Host: h"]
        if token is not None:
            lines.append(f"Authorization: Bearer {token}")
        lines += headers
        return b"\r\n".join(each.encode() if isinstance(each, str) else each for each in lines) + b"\r\n\r\n"

    # -- kinds

    def _noise(self) -> Malformed:
        return Malformed("noise", self._bytes(300).replace(b"\n", b"") + b" \r\n\r\n")

    def _mutated(self) -> Malformed:
        """A request with an unknown parameter, with some bytes changed, but to none that begins a fragment."""
        request = bytearray(self._request("/org-0?x=1", "Last-Event-ID: 1", token=self._token)[:-4])
        for _ in range(self._chance.randint(1, 6)):
            request[self._chance.randrange(len(request))] = self._chance.choice(b"\x00\x01\t\r :/?%\x7f\x80\xff\xfeAz0")
        return Malformed("mutated", bytes(request) + b"\r\n\r\n", (self._token,))

    def _huge_header(self) -> Malformed:
        size = self._chance.choice((9_000, 70_000, 270_000))
        return Malformed("huge header", self._request("/org-0?x=1", f"X-{self._word()}: " + "v" * size))

    def _many_headers(self) -> Malformed:
        headers = [f"{self._word()}: {self._word()}" for _ in range(self._chance.randint(100, 1_000))]
        return Malformed("many headers", self._request("/org-0?x=1", *headers))

    def _method(self) -> Malformed:
        method = self._chance.choice((*METHODS[2:], f"x{self._word(40)}", f"X{self._word(4).upper()}"))
        return Malformed(
            f"method {method}", self._request(self._chance.choice(PATHS), method=method, token=self._token)
        )

    def _path(self) -> Malformed:
        path = self._chance.choice((
            f"/{self._quoted(60)}!", f"/org-0/{self._quoted(20)}!", "/" * 9, "/../../etc/passwd!", "*", "http://[::1/x",
            f"//{self._word()}/x", "/org-0%2freplay", "/ORG-0", "/org_0", "/org-0?x=1#y",
        ))  # fmt: skip
        return Malformed(f"path {path}", self._request(path, token=self._token))

    def _parameters(self) -> Malformed:
        """Always one that nothing knows, among others."""
        pairs = [f"zz{self._word()}={self._word()}"]
        for _ in range(self._chance.randint(0, 8)):
            name = self._chance.choice((*PARAMETERS, self._quoted(8)))
            value = self._chance.choice((self._quoted(40), "", "2026-01-01T00:00:00+02:00", "9" * 400, "a,,b", "%zz%"))
            pairs.append(f"{name}={value}")
        self._chance.shuffle(pairs)
        path = self._chance.choice(PATHS[:4])
        return Malformed("parameters", self._request(f"{path}?{'&'.join(pairs)}", token=self._token))

    def _last_event_id(self) -> Malformed:
        value = self._chance.choice((
            self._bytes(40).translate(None, b"\r\n\0") + b"!", b"0" * 5_000, b"fffffffe-0000-7000-8000-000000000000",
            b"01a202b2-c57c-4000-8000-00000000002a", "ü".encode(),
        ))  # fmt: skip
        return Malformed("last event id", self._request("/org-0?x=1", b"Last-Event-ID: " + value, token=self._token))

    def _token_of_noise(self) -> Malformed:
        noise = self._bytes(200)
        token = self._chance.choice((
            base64.urlsafe_b64encode(noise).decode(),
            ".".join(self._word(60) for _ in range(self._chance.randint(1, 5))), "sh_ak_" + self._word(40),
            f"sh_ak_{self._chance.randrange(10**12):012}_{'x' * 43}", "a" * 40_000,
        ))  # fmt: skip
        return Malformed("token of noise", self._request("/org-0", token=token), (token,))

    def _token_unsigned(self) -> Malformed:
        claims: dict[str, object] = {
            "iss": "streamhub-development",
            "exp": self._chance.choice((9e99, "x", None, 2**70, -1)),
            "iat": [],
        }
        header: dict[str, object] = {
            "alg": self._chance.choice(("none", "None", "HS256", "RS256", "RS512", 5, None, ["RS512"])),
            "kid": {},
        }
        parts = [base64.urlsafe_b64encode(json.dumps(each).encode()).rstrip(b"=").decode() for each in (header, claims)]
        token = ".".join([*parts, self._chance.choice(("", self._word(80)))])
        return Malformed("token unsigned", self._request("/org-0", token=token), (token,))

    def _token_tampered(self) -> Malformed:
        token = self._chance.choice((self._token, *self._spoilt))
        if token is self._token:
            parts = token.split(".")
            n = self._chance.randrange(3)
            cut = self._chance.randrange(len(parts[n]))
            parts[n] = parts[n][:cut] + self._word(5) + parts[n][cut + 1 :] + "AAAA"
            token = ".".join(parts)
        return Malformed("token tampered", self._request("/org-0", token=token), (token,))

    def _token_elsewhere(self) -> Malformed:
        name = self._chance.choice(("access_token", "token", "jwt"))
        target = self._chance.choice((f"/org-0?{name}={self._token}", f"/org-0/{self._token}", f"/{self._token}"))
        method = self._chance.choice(("GET", "GET", self._token))
        return Malformed("token elsewhere", self._request(target, method=method), (self._token,))

    def _authorization(self) -> Malformed:
        value = self._chance.choice((
            b"Basic " + base64.b64encode(self._bytes(30)), b"Bearer", b"Bearer  ", b"bearer\t" + self._token.encode(),
            b"Digest " + self._token.encode(), self._bytes(50).translate(None, b"\r\n\0") + b"!", b"",
        ))  # fmt: skip
        twice = self._chance.random() < 0.2
        headers = [b"Authorization: " + value, *([f"Authorization: Bearer {self._token}".encode()] if twice else [])]
        return Malformed("authorization", self._request("/org-0?x=1", *headers), (self._token,))

    def _body(self) -> Malformed:
        framing = self._chance.choice((
            "Content-Length: -1", "Content-Length: 1e3", "Content-Length: 5\r\nContent-Length: 6",
            "Transfer-Encoding: chunked\r\nContent-Length: 3", "Transfer-Encoding: gzip", "Expect: nothing-at-all",
            "Content-Length: 99999999999999999999", "Transfer-Encoding: chunked",
        ))  # fmt: skip
        request = self._request("/org-0?x=1", framing, "Content-Type: application/json", token=self._token)
        return Malformed(f"body {framing}", request + self._bytes(100))
