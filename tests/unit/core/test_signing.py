"""Signatures of webhooks: the published vectors, and whatever a stranger may send."""

import hashlib
import hmac
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.core import signing
from streamhub.core.signing import InvalidSignature

# Of the libraries of Standard Webhooks.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
TIME = 1614265330
BODY = b'{"test": 2432232314}'
SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
FALSE = "v1,Ceo5qEr07ixe2NLpvHk3FH9bwy/WavXrAFQ/9tdO6mc="
NEW_SECRET = signing.secret_of(b"a new key of at least 24 bytes")

KEYS = st.binary(min_size=1, max_size=64)
SECRETS = st.lists(KEYS.map(signing.secret_of), min_size=1, max_size=3, unique=True)
# Neither spaces nor control characters come through HTTP at the edges of a header.
NAMES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
TIMES = st.integers(0, 10**11)


def _padded(key: bytes) -> bytes:
    """HMAC fills a key up with zeros."""
    return key.rstrip(b"\0")


@pytest.fixture
def delivery() -> dict[str, str]:
    """The headers of the published vector."""
    return {"webhook-id": ID, "webhook-timestamp": str(TIME), "webhook-signature": SIGNATURE}


def test_the_published_vector_is_what_we_sign() -> None:
    assert signing.sign(BODY, ID, TIME, [SECRET])["webhook-signature"] == SIGNATURE


def test_x_acp_signature_is_hex_keyed_by_the_whole_secret_as_shown() -> None:
    right = hmac.new(SECRET.encode(), BODY, hashlib.sha256).hexdigest()
    assert signing.sign(BODY, ID, TIME, [SECRET])["X-ACP-Signature"] == right


def test_during_a_rotation_one_header_keeps_the_oldest_secret_and_the_other_carries_all() -> None:
    both = signing.sign(BODY, ID, TIME, [SECRET, NEW_SECRET])
    alone = signing.sign(BODY, ID, TIME, [NEW_SECRET])
    assert both["X-ACP-Signature"] == signing.sign(BODY, ID, TIME, [SECRET])["X-ACP-Signature"]
    assert both["webhook-signature"] == f"{SIGNATURE} {alone['webhook-signature']}"


def test_a_receiver_that_has_either_secret_of_a_rotation_accepts() -> None:
    headers = signing.sign(BODY, ID, TIME, [SECRET, NEW_SECRET])
    for known in (SECRET, NEW_SECRET):
        signing.verify(BODY, headers, [known], TIME)


def test_the_right_one_among_others_is_enough(delivery: dict[str, str]) -> None:
    delivery["webhook-signature"] = f"{FALSE} {FALSE.replace('v1', 'v2')} {SIGNATURE} {FALSE}"
    signing.verify(BODY, delivery, [SECRET], TIME)


def test_another_version_of_signatures_does_not_count(delivery: dict[str, str]) -> None:
    delivery["webhook-signature"] = SIGNATURE.replace("v1", "v2")
    with pytest.raises(InvalidSignature):
        signing.verify(BODY, delivery, [SECRET], TIME)


@pytest.mark.parametrize("part", [FALSE, SIGNATURE[:8], "v1,", "v1", ",", "é", "v1,\udcff", SIGNATURE[3:]])
def test_a_false_or_partial_signature_is_refused(delivery: dict[str, str], part: str) -> None:
    with pytest.raises(InvalidSignature, match="is not this delivery's with any of the secrets"):
        signing.verify(BODY, {**delivery, "webhook-signature": part}, [SECRET], TIME)


@pytest.mark.parametrize("name", ["webhook-id", "webhook-timestamp", "webhook-signature"])
def test_a_header_that_is_missing_or_empty_is_named(delivery: dict[str, str], name: str) -> None:
    missing = {each: value for each, value in delivery.items() if each != name}
    for headers in (missing, {**delivery, name: ""}):
        with pytest.raises(InvalidSignature, match=f"no {name}"):
            signing.verify(BODY, headers, [SECRET], TIME)


@pytest.mark.parametrize("timestamp", ["hello", "-5", "1.5", " 1614265330", "1e9", "٣", "9" * 5000])
def test_a_timestamp_that_is_no_number_is_refused(delivery: dict[str, str], timestamp: str) -> None:
    with pytest.raises(InvalidSignature, match="no number of seconds"):
        signing.verify(BODY, {**delivery, "webhook-timestamp": timestamp}, [SECRET], TIME)


@pytest.mark.parametrize("seconds", [-300, 300])
def test_five_minutes_either_way_are_accepted(delivery: dict[str, str], seconds: int) -> None:
    signing.verify(BODY, delivery, [SECRET], TIME + seconds)


@pytest.mark.parametrize(("seconds", "when"), [(301, "301 s old"), (-301, "301 s in the future")])
def test_more_than_five_minutes_are_refused_and_told(delivery: dict[str, str], seconds: int, when: str) -> None:
    with pytest.raises(InvalidSignature, match=when):
        signing.verify(BODY, delivery, [SECRET], TIME + seconds)


def test_names_of_headers_may_have_any_case(delivery: dict[str, str]) -> None:
    signing.verify(BODY, {name.upper(): value for name, value in delivery.items()}, [SECRET], TIME)


def test_x_acp_signature_alone_is_refused_since_it_has_no_time() -> None:
    headers = signing.sign(BODY, ID, TIME, [SECRET])
    with pytest.raises(InvalidSignature, match="no webhook-id, no webhook-timestamp, no webhook-signature"):
        signing.verify(BODY, {"X-ACP-Signature": headers["X-ACP-Signature"]}, [SECRET], TIME)


def test_x_acp_signature_alone_is_accepted_where_that_is_asked_for() -> None:
    headers = {"x-acp-signature": signing.sign(BODY, ID, TIME, [SECRET])["X-ACP-Signature"]}
    signing.verify(BODY, headers, [NEW_SECRET, SECRET], TIME, requires_time=False)
    with pytest.raises(InvalidSignature, match="X-ACP-Signature is not this body's"):
        signing.verify(BODY + b" ", headers, [SECRET], TIME, requires_time=False)
    with pytest.raises(InvalidSignature, match="neither webhook-signature nor X-ACP-Signature"):
        signing.verify(BODY, {}, [SECRET], TIME, requires_time=False)


def test_a_false_standard_signature_is_not_saved_by_a_right_x_acp_signature(delivery: dict[str, str]) -> None:
    headers = {**signing.sign(BODY, ID, TIME, [SECRET]), "webhook-signature": FALSE}
    with pytest.raises(InvalidSignature):
        signing.verify(BODY, headers, [SECRET], TIME, requires_time=False)


@pytest.mark.parametrize("secret", ["", "whsec_", "hunter2", "whsec_hunter-2!", "whsec_abc", "whsec_é"])
def test_a_secret_that_is_none_is_refused_without_showing_it(delivery: dict[str, str], secret: str) -> None:
    for use in (
        lambda: signing.sign(BODY, ID, TIME, [secret]),
        lambda: signing.verify(BODY, delivery, [SECRET, secret], TIME),
    ):
        with pytest.raises(ValueError, match=r"is whsec_ and base64 behind it") as wrong:
            use()
        assert not isinstance(wrong.value, InvalidSignature)
        assert not re.search("hunter", str(wrong.value))


def test_no_secret_at_all_verifies_nothing(delivery: dict[str, str]) -> None:
    with pytest.raises(ValueError, match="no secret was given"):
        signing.verify(BODY, delivery, [], TIME)


@given(body=st.binary(max_size=200), id_=NAMES, timestamp=TIMES, secrets=SECRETS)
def test_what_is_signed_is_verified_with_each_of_the_secrets(
    body: bytes, id_: str, timestamp: int, secrets: list[str]
) -> None:
    headers = signing.sign(body, id_, timestamp, secrets)
    for secret in secrets:
        signing.verify(body, headers, [secret], timestamp)
    acp = {"X-ACP-Signature": headers["X-ACP-Signature"]}
    signing.verify(body, acp, secrets[:1], timestamp, requires_time=False)


@given(
    body=st.binary(max_size=50),
    id_=NAMES,
    timestamp=TIMES,
    keys=st.lists(KEYS, min_size=2, max_size=2, unique_by=_padded),
    changed=st.sampled_from(["body", "id", "time", "key"]),
)
def test_nothing_of_a_delivery_can_be_changed(
    body: bytes, id_: str, timestamp: int, keys: list[bytes], changed: str
) -> None:
    mine, other = map(signing.secret_of, keys)
    headers = signing.sign(body, id_, timestamp, [mine])
    match changed:
        case "body":
            body += b"0"
        case "id":
            headers["webhook-id"] += "0"
        case "time":
            timestamp += 1
            headers["webhook-timestamp"] = str(timestamp)
        case "key":
            mine = other
    with pytest.raises(InvalidSignature):
        signing.verify(body, headers, [mine], timestamp)


@given(
    body=st.binary(max_size=50),
    headers=st.dictionaries(
        st.sampled_from(["webhook-id", "webhook-timestamp", "webhook-signature", "X-ACP-Signature"]),
        st.text(st.characters(), max_size=60) | st.just(str(TIME)),
    ),
    requires_time=st.booleans(),
)
def test_whatever_a_stranger_sends_is_refused_in_words(
    body: bytes, headers: dict[str, str], requires_time: bool
) -> None:
    with pytest.raises(InvalidSignature):
        signing.verify(body, headers, [SECRET], TIME, requires_time=requires_time)
