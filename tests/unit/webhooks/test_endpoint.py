"""What an endpoint may be, in a document and in a row."""

import json
from typing import Any

import pytest

from streamhub.core import signing
from streamhub.webhooks import endpoint
from streamhub.webhooks.addresses import Addresses
from streamhub.webhooks.endpoint import InvalidEndpoint

SECRET = signing.secret_of(b"k" * 32)


def faults(**fields: Any) -> list[tuple[str, str]]:
    try:
        endpoint.read(fields, Addresses(), whole=False)
    except InvalidEndpoint as error:
        return [(each.pointer, each.detail) for each in error.wrong]
    return []


def row(**fields: Any) -> dict[str, Any]:
    right: dict[str, Any] = {
        "url": "https://shop.example.com/", "events": ["skus.*"], "rate": None, "secret": SECRET,
        "filters": {}, "headers": {}, "old_secrets": [],
    }  # fmt: skip
    return {
        name: json.dumps(value) if isinstance(right[name], (dict, list)) and name != "events" else value
        for name, value in {**right, **fields}.items()
    }


def test_a_row_that_is_right_is_compiled() -> None:
    read = endpoint.of_row(row(old_secrets=[{"secret": SECRET, "valid_until": 5}], headers={"X-Shop": "42"}))
    assert read.wrong is None
    assert read.choice is not None
    assert [until for _, until in read.secrets] == [5.0, float("inf")]
    assert read.headers == {"X-Shop": "42"}


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"filters": {"path_prefix": 5}}, "filter 'path_prefix' is 5: give a string"),
        ({"filters": {"nothing": "x"}}, "nothing"),
        ({"filters": []}, "filters is []"),
        ({"events": [None]}, "events has null"),
        ({"url": "ftp://shop.example.com/"}, "its scheme is not https"),
        ({"secret": "whsec_#"}, "secret is not whsec_ and base64"),
        ({"old_secrets": [{"secret": 5, "valid_until": 9}]}, "old_secrets is no list"),
        ({"old_secrets": 5}, "old_secrets is no list"),
        ({"old_secrets": [{"secret": SECRET, "valid_until": 9}] * 11}, "old_secrets has 11 entries; at most 10"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "'Transfer-Encoding' is not for an endpoint to set"),
        ({"headers": {"webhook-id": "x"}}, "'webhook-id' is not for an endpoint to set"),
    ],
)
def test_a_row_that_cannot_be_used_says_why(fields: dict[str, Any], said: str) -> None:
    read = endpoint.of_row(row(**fields))
    assert read.wrong is not None
    assert said in read.wrong
    assert (read.choice, read.secrets) == (None, ())


def test_a_row_that_cannot_be_read_raises_nothing() -> None:
    assert endpoint.of_row({}).wrong == "its row cannot be used: KeyError"


@pytest.mark.parametrize("event", ["foo bar", "skus..update", "skus/update", " skus.*", "skus.*,x", "skus.heartbeat"])
def test_what_no_type_could_match_is_a_fault_there(event: str) -> None:
    assert [pointer for pointer, _ in faults(events=["skus.*", event])] == ["/events/1"]


@pytest.mark.parametrize(
    ("filters", "pointer"),
    [
        ({"path_prefix": "a\0"}, "/filters/path_prefix"),
        ({"resource.a_eq": "a\0"}, "/filters/resource.a_eq"),
        ({"resource.a\0_eq": "a"}, "/filters/resource.a\0_eq"),
    ],
)
def test_a_nul_in_a_filter_is_a_fault_there(filters: dict[str, str], pointer: str) -> None:
    ((found, detail),) = faults(filters=filters)
    assert found == pointer
    assert "holds a NUL character" in detail


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("https://shop.example.com:0/", "nothing answers at port 0"),
        ("https://[v1.a]/", "neither a name nor an address"),
        ("https://..../", "neither a name nor an address"),
        (f"https://{'a' * 100}.example/", "neither a name nor an address"),
        ('https://a"<b>.example/', "neither a name nor an address"),
        ("https://[fe80::1%eth0]/", "neither a name nor an address"),
        ("javascript:alert(1)", "its scheme is not https"),
        ("https://müller.example/", "write the host as xn--…"),
        ("https:///hooks", "it names no host"),
        ("https://169.254.169.254/latest/meta-data", "169.254.169.254 is not a public address"),
        ("https://[::ffff:10.0.0.1]/", "is not a public address"),
        ("https://2130706433/", "127.0.0.1 is not a public address"),
        ("https://16843009/", "ends in a number"),
        ("https://93.184.216.34./", "ends in a number"),
        ("https://1.2.3.4.5/", "ends in a number"),
        ("https://shop.0x7f/", "ends in a number"),
    ],
)
def test_a_url_that_is_never_reachable_is_refused_with_why(url: str, said: str) -> None:
    ((_, detail),) = faults(url=url)
    assert said in detail


@pytest.mark.parametrize(
    "url", ["https://a_b.example./x?y=1", "https://[2606:4700::1111]:8443/", "https://1.1.1.1/", "https://1.2.example"]
)
def test_a_url_that_may_be_reachable_is_accepted(url: str) -> None:
    assert faults(url=url) == []


@pytest.mark.parametrize("url", ["https://user:GEHEIM42@shop.example.com/", "http://shop.example.com/?token=GEHEIM42"])
def test_a_fault_of_a_url_shows_nothing_of_its_secrets(url: str) -> None:
    ((_, detail),) = faults(url=url)
    assert "GEHEIM42" not in detail


def test_a_value_is_named_as_json_names_it() -> None:
    details = [detail for _, detail in faults(enabled=None, url=None, auto_disable=[True])]
    assert [each.split(":")[0] for each in details] == ["enabled is null", "url is null", "auto_disable is [true]"]
