"""No spelling of a secret passes, and what is none stays as it is."""

from __future__ import annotations

import json
import logging
import string
import sys
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from scenegen.errors import TransientError
from scenegen.messages import progress
from scenegen.messages.redaction import RedactingFormatter, clean_cause, redacted, redacted_url, secret_in
from scenegen.records import Failure
from scenegen.store.folder import reaching

BASE64 = string.ascii_letters + string.digits + "+/="
AWS = st.text(BASE64, min_size=20, max_size=44).map(lambda text: f"k{text}")
PASSWORDS = st.text(
    string.ascii_letters + string.digits + "!#$%&()*+,-./:;=?@[]^_{|}~ é", min_size=12, max_size=30
).map(lambda text: f"p{text}w")  # neither spaces around it nor digits that read as a port
ENCODINGS = (
    str,
    quote,
    lambda text: quote(text, safe=""),
    quote_plus,
    lambda text: quote(quote(text, safe=""), safe=""),
    lambda text: quote(text, safe="").lower() if text.islower() else quote(text, safe=""),
)


def leaks(secret: str, shown: str) -> bool:
    return any(encode(secret) in shown for encode in ENCODINGS)


URLS = (
    "s3://AKIDEXAMPLE:{}@bucket/x.jpg",
    "gs://KEY:{}@bucket",
    "https://user:{}@host/a/b.jpg",
    "ftp://user:{}@host:2121/a@2x.jpg",
    "HTTPS://user:{}@host/a.jpg?size=2",
)
NAMED = (
    "https://host/a.jpg?X-Amz-Date=1&X-Amz-Signature={}&x=1",
    "https://host/a.jpg?sv=2024&sig={}",
    "s3://bucket/a.jpg?X-Amz-Security-Token={}",
    "token={}",
    "aws_secret_access_key = {}",
    '{{"password": "{}"}}',
    "{{'Authorization': 'Bearer {}'}}",
    "url=https%3A%2F%2Fhost%2Fa%3FX-Amz-Signature%3D{}",
)


@settings(max_examples=30)
@given(st.sampled_from(URLS), AWS | PASSWORDS, st.sampled_from(ENCODINGS))
@example("s3://AKIDEXAMPLE:{}@bucket/x.jpg", "12345/abcdefghijklmnopqrstuv", str)
@example("https://user:{}@host/a/b.jpg", "ab@cd/ef@ghijkl", str)
@example("s3://AKIDEXAMPLE:{}@bucket/x.jpg", "p000000000%30w", quote)
def test_a_password_in_a_url_of_its_own(url: str, secret: str, encode: object) -> None:
    """As a list holds it. From then on the secret is known, whatever another package makes of the URL."""
    assert callable(encode)
    whole = url.format(encode(secret))
    assert not leaks(secret, redacted_url(whole))
    for again in ENCODINGS:
        for text in (f'Invalid bucket name "KEY:{again(secret)}@bucket": must match', f"<Id>{again(secret)}</Id>"):
            assert not leaks(secret, redacted(text))


@settings(max_examples=30)
@given(st.sampled_from(URLS), st.text(BASE64, min_size=12, max_size=40), st.sampled_from(ENCODINGS[:5]))
def test_a_password_of_a_url_within_a_text(url: str, secret: str, encode: object) -> None:
    """Nothing was known of it before."""
    assert callable(encode)
    secret = f"x{secret}"  # not a port
    text = f"GET '{url.format(encode(secret))}' failed\nwith \"{quote(url.format(secret), safe='')}\""
    assert not leaks(secret, redacted(text))


@settings(max_examples=30)
@given(st.sampled_from(NAMED), st.text(BASE64, min_size=12, max_size=40), st.sampled_from(ENCODINGS[:5]))
def test_what_is_named_as_a_secret(text: str, secret: str, encode: object) -> None:
    assert callable(encode)
    shown = redacted(f"before {text.format(encode(secret))} after")
    assert not leaks(secret, shown)
    assert shown.startswith("before ")
    assert redacted(shown) == shown


@settings(max_examples=30)
@given(AWS | PASSWORDS, st.sampled_from(ENCODINGS))
def test_values_of_the_environment(secret: str, encode: object) -> None:
    assert callable(encode)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("AWS_SECRET_ACCESS_KEY", "FSSPEC_S3_KEY", "HF_TOKEN", "PREFECT_API_AUTH_STRING"):
            patch.setenv(name, secret)
            assert not leaks(secret, redacted(f"credential scope <{encode(secret)}> and {json.dumps(secret)}"))
            patch.delenv(name)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("s3://bucket/a?b.jpg", "s3://bucket/a?b.jpg"),
        ("ftp://me:pass@host/b.jpg", "ftp://***@host/b.jpg"),
        (
            "404, url='https://host/a.jpg?X-Amz-Signature=abc&x=1', (nothing)",
            "404, url='https://host/a.jpg?...', (nothing)",
        ),
        ("https://me@host/a.jpg?sig=1 and http://host/b?c", "https://***@host/a.jpg?... and http://host/b?..."),
        ('Invalid bucket name "KEY:hush@bucket": it must', 'Invalid bucket name "***@bucket": it must'),
        ("an id such as AKIAIOSFODNN7EXAMPLE", "an id such as ***"),
    ],
)
def test_examples(text: str, shown: str) -> None:
    assert redacted(text) == redacted(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "/photos/who?/me@home.jpg",
        "/photos/12:30 me@home.jpg",
        "https://host:8080/logo@2x.png",
        "abfs://container@account.dfs.core.windows.net/a.jpg",
        "file:///a:b@c/d.jpg",
        "configuration: `generate.max_tokens`: Input should be greater than 512",
        "[photo: generate 3] 12.5 s, 3 of 7: about 0:01:02 left",
        "KeyError: 'token'",
    ],
)
def test_what_is_no_secret_stays(text: str) -> None:
    assert redacted(text) == text


def test_long_texts_take_no_time() -> None:
    for part in ("a", "a:", "a@", "https://", "token", "%3A", "x:y@"):
        redacted(part * (20_000 // len(part)))


@pytest.mark.parametrize(
    ("url", "held"),
    [
        ("s3://key:hunter2@bucket/photos", "password"),
        ("s3://key:a/b@bucket/photos", "password"),
        ("https://blob.example/a.jpg?sv=2024&SIG=hunter2", "signature (SIG)"),
        ("https://host/a.jpg?size=2", ""),
        ("sftp://me@host/a", ""),
    ],
)
def test_what_a_url_holds(url: str, held: str) -> None:
    assert secret_in(url) == held


def fail(secret: str) -> None:
    with reaching("s3://bucket/a.jpg"):
        raise ValueError(f'Invalid bucket name "KEY:{secret}@bucket"')


SECRET = "hush-hush-hush"


def test_every_formatter_and_a_cause_are_clean() -> None:
    """A traceback that another package's handler writes, as Prefect's do, is clean as well."""
    try:
        fail(SECRET)
    except TransientError:
        record = logging.LogRecord("x", logging.ERROR, "", 0, "token=%s", (SECRET,), sys.exc_info())
    foreign = logging.Formatter("%(levelname)s").format(record)
    assert "Traceback" in foreign
    assert "hush" not in foreign
    record.exc_text = None
    for formatter in (RedactingFormatter("%(message)s"), progress.JsonLines("run")):
        line = formatter.format(record)
        record.exc_text = None
        assert "Invalid bucket name" in line
        assert "hush" not in line
    assert "hush" not in str(clean_cause(KeyError("https://me:hush@host/")))


def test_records_hold_none() -> None:
    failure = Failure(stage="generate", object=1, error="KeyError: https://me:hush@host/a")
    assert "hush" not in failure.model_dump_json()
    assert Failure.model_validate_json(failure.model_dump_json()) == failure


def test_a_person_may_stand_in_paths() -> None:
    assert redacted_url("sftp://robert:hush-hush@host/a.jpg") == "sftp://***@host/a.jpg"
    assert redacted("/home/robert/out/a: 3 objects") == "/home/robert/out/a: 3 objects"
