"""What is shown of a URL, and what a PostgreSQL URL may ask for."""

from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streamhub.urls import WrongUrlError, shown, shown_words, target

SECRETS = st.text(alphabet="@:/?#[]&=%,. abcXYZ019-_", min_size=1, max_size=12).map(lambda text: f"s3cr{text}et7")
FORMS = (
    "postgresql://hub:{}@h:5432/d",
    "postgres://hub:{}@h,i:5433/d",
    "postgresql://:{}@h/d",
    "postgresql://h/d?password={}",
    "postgresql://h/d?user=u&password={}&sslmode=require",
    "postgresql:///d?host=/run&passfile={}",
    "postgresql://h/d?sslpassword={}",
    "postgresql://h/d?pass%77ord={}",
    "postgresql://h/d?options=-c%20x.y%3D{}",
    "https://{}@issuer.example/keys",
    "https://u:{}@issuer.example/keys",
    "https://issuer.example/keys?token={}",
    "smtp://mailer:{}@mail.example:587",
    "http://{}:x@proxy.example:3128",
)


@given(st.sampled_from(FORMS), SECRETS)
def test_a_secret_that_is_written_as_urls_want_it_is_not_shown(form: str, secret: str) -> None:
    assert not leaked(secret, shown(form.format(quote(secret, safe=""))))


@given(st.sampled_from(FORMS), SECRETS)
def test_a_secret_that_is_written_as_it_is_is_not_shown(form: str, secret: str) -> None:
    assert not leaked(secret, shown(form.format(secret)))
    assert not leaked(secret, shown_words(f"shop={form.format(secret)}"))
    assert not leaked(secret, shown_words(form.format(secret)))


@given(SECRETS.filter(lambda text: " " not in text))
def test_a_secret_of_a_connection_string_is_not_shown(secret: str) -> None:
    assert not leaked(secret, shown(f"host=h user=hub password={secret}"))
    assert not leaked(secret, shown_words(f"host=h user=hub password={secret}"))


def leaked(secret: str, text: str) -> bool:
    """Whether a piece of it is there; its ends are in nothing else of these URLs."""
    return "s3cr" in text or "et7" in text


@pytest.mark.parametrize(
    ("url", "as_shown"),
    [
        ("postgresql://u:p%40ss@h:5432/d?sslmode=require", "postgresql://u:…@h:5432/d?sslmode=require"),
        ("postgresql://u@h/d", "postgresql://u@h/d"),
        ("postgresql:///d?host=/run", "postgresql:///d?host=/run"),
        ("postgresql://u:p@[::1]:5432,h2:5433/d", "postgresql://u:…@[::1]:5432,h2:5433/d"),
        ("postgresql://u@h/d?password=p&connect_timeout=3", "postgresql://u@h/d?password=…&connect_timeout=3"),
        ("https://a.example/keys.json", "https://a.example/keys.json"),
        ("https://u:p@a.example/keys.json", "https://…@a.example/keys.json"),
    ],
)
def test_a_url_loses_its_secrets_and_nothing_else(url: str, as_shown: str) -> None:
    assert shown(url) == as_shown


@pytest.mark.parametrize(
    ("query", "kept", "seconds"),
    [
        ("connect_timeout=7", "", 7),
        ("connect_timeout=1", "", 2),  # as libpq, which takes no less
        ("connect_timeout=0", "", None),
        ("connect_timeout=-1", "", None),
        ("channel_binding=prefer&sslmode=require", "?sslmode=require", None),
        ("application_name=x&gssencmode=disable", "", None),
        ("target_session_attrs=read-write", "?target_session_attrs=read-write", None),
        ("options=-c%20a.b%3Dc", "?options=-c+a.b%3Dc", None),
    ],
)
def test_a_parameter_does_what_it_does_for_libpq(query: str, kept: str, seconds: float | None) -> None:
    assert target(f"postgresql://u:p@h/d?{query}") == (f"postgresql://u:p@h/d{kept}", seconds)


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("channel_binding=require", "channel_binding=require, which is not supported"),
        ("gssencmode=require", "gssencmode=require, which is not supported"),
        ("hostaddr=10.0.0.1", "hostaddr that is not supported"),
        ("tcp_user_timeout=5", "tcp_user_timeout that is not supported"),
        ("load_balance_hosts=random", "load_balance_hosts=random, which is not supported"),
        ("connect_timeout=soon", "connect_timeout that is not a whole number"),
        ("sslmode=maybe", "not one of disable, allow"),
        ("target_session_attrs=best", "not one of any, read-write"),
        ("sslrootcert=system", "sslrootcert=system, which is not supported"),
        ("sslrootcert=/no/such/file", r"sslrootcert that cannot be read \(No such file or directory\)"),
        ("s3cret", "not a PostgreSQL URL"),
        ("s3cret=1", "a parameter that is not supported"),
    ],
)
def test_what_is_not_supported_is_named_in_a_sentence(query: str, says: str) -> None:
    with pytest.raises(WrongUrlError, match=says) as caught:
        target(f"postgresql://u:p@h/d?{query}")
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize("password", ["a@b", "a/b@c", "a#b", "a?b@c"])
def test_a_password_that_no_client_would_read_right_is_refused(password: str) -> None:
    with pytest.raises(WrongUrlError):
        target(f"postgresql://u:{password}@h/d")


def test_a_file_of_certificates_that_can_be_read_is_taken(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").touch()
    url = f"postgresql://h/d?sslrootcert={quote(str(tmp_path / 'ca.pem'), safe='')}"
    assert target(url).url == url
