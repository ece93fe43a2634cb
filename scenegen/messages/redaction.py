"""Removes secrets from texts. Every log line, traceback, printed line and written record goes through `redacted`.

What counts as a secret: user and password of a URL; a web URL's query; the value beside a name such as `token`,
`X-Amz-Signature` or `Authorization`; access key ids of AWS; the values of environment variables named like secrets; and the
password of a URL that `redacted_url` or `remember` was given recently. Each is found plain or percent-encoded, even twice.

If in doubt, too much is removed: `ftp://me:a@b/c@host` may have the password `a` or `a@b/c`, so neither is shown.
"""

from __future__ import annotations

import functools
import logging
import os
import re
import traceback
from collections import deque
from collections.abc import Iterator
from urllib.parse import unquote

MASK = "***"
SHORTEST = 6
"""Shorter values are looked for in URLs only: elsewhere they would mask ordinary words."""
SHORTEST_USER = 16

_PERCENT = r"%(?:25)*"
_COLON = rf"(?::|{_PERCENT}3A)"
_SLASH = rf"(?:/|{_PERCENT}2F)"
_AT = rf"(?:@|{_PERCENT}40)"
_END = r"\s'\"<>`"
"""What ends a URL in a text."""

_URL = re.compile(rf"((?<![a-z0-9+.-])[a-z][a-z0-9+.-]{{0,19}}{_COLON}{_SLASH}{_SLASH})([^{_END}]*)", re.IGNORECASE)
_WHOLE_URL = re.compile(r"([a-z][a-z0-9+.-]*://)(.*)", re.IGNORECASE | re.DOTALL)
_AUTHORITY = re.compile(rf"(?:(?!{_SLASH}).)*", re.IGNORECASE | re.DOTALL)
_TO_LAST_AT = re.compile(rf"(.*){_AT}", re.IGNORECASE | re.DOTALL)
_PORT = re.compile(rf"(?:.*{_COLON})?\d{{1,5}}", re.IGNORECASE | re.DOTALL)
_WITHOUT_PORTS = ("s3", "s3a", "s3n", "gs", "gcs", "oss")
_CONTAINERS = ("abfs", "abfss", "wasb", "wasbs")
"""Schemes of Azure, whose URLs read container@account."""
_USER_AND_PASSWORD = re.compile(
    rf"(?<![\w/.%+*-])[^{_END}/:@%]{{1,128}}{_COLON}(?!{_SLASH}{_SLASH})[^{_END}]{{0,256}}{_AT}", re.IGNORECASE
)
_QUERY = re.compile(rf"(\bhttps?://[^{_END}?]{{1,2048}})\?[^{_END})]*", re.IGNORECASE)
_NAME = (
    r"(?<![\w-])[\w-]*(?:signature|\bsig|token|secret|password|passwd|passphrase|pwd|credential|authorization"
    r"|(?:api|access|account|secret|secret[_-]?access)[_-]?key(?:[_-]?id)?)"
)
_NAMED = re.compile(
    rf"({_NAME}[\"']?\s*(?::(?!//)|=|{_PERCENT}3D)\s*)"
    rf"(?!{re.escape(MASK)})(\"[^\"]*\"|'[^']*'|(?:(?:basic|bearer|token|aws4-hmac-sha256)\s+)?[^\s\"'&<>]+)",
    re.IGNORECASE,
)
_PLAIN = re.compile(r"[A-Za-z0-9]+")
_ACCESS_KEY_ID = re.compile(r"\b(?:AKIA|ASIA)[A-Z0-9]{12,}\b")
_SECRET_VARIABLE = re.compile(
    r"(?:^|_)(?:SECRET|TOKEN|PASS|PASSWORD|PASSWD|PASSPHRASE|SIGNATURE|\w*KEY(?:_ID)?|AUTH_STRING|CONNECTION_STRING)$",
    re.IGNORECASE,
)

_met: deque[str] = deque(maxlen=64)


def redacted(text: str) -> str:
    """`text` without its secrets. Text that is redacted already stays as it is."""
    for value in _known():
        # Letters and digits are the same in every encoding, so most texts are ruled out without a pattern.
        if max(_PLAIN.findall(value), key=len, default="") in text:
            text = _spelled(value).sub(MASK, text)
    text = _URL.sub(_without_credentials, text)
    text = _USER_AND_PASSWORD.sub(f"{MASK}@", text)
    text = _QUERY.sub(r"\1?...", text)
    text = _NAMED.sub(rf"\1{MASK}", text)
    return _ACCESS_KEY_ID.sub(MASK, text)


def redacted_url(place: str) -> str:
    """A path or URL without its secrets, whatever their characters; they are remembered."""
    remember(place)
    match = _WHOLE_URL.fullmatch(place)
    return redacted(place if match is None else _without_credentials(match))


def remember(url: str) -> None:
    """From now on the secrets of `url` are redacted everywhere, also outside the URL and in parts."""
    match = _WHOLE_URL.fullmatch(url)
    if match is None:
        return
    user, password = _credentials(match[1], match[2])
    found = [value.strip("\"'") for _, value in _NAMED.findall(match[2])]
    if user or password:
        # A package that splits the URL elsewhere quotes a part of the password, such as everything up to a slash.
        readings = [password[: at.start()] for at in re.finditer(_AT, password, re.IGNORECASE)]
        pieces = re.split(rf"{_AT}|{_SLASH}|[?#]", password, flags=re.IGNORECASE)
        found += [password, *readings, *pieces, f"{user}:{pieces[0]}"]
        # Only a key or a token: a person's name may occur in any path.
        found += [user] if len(user) >= SHORTEST_USER else []
    for value in (step for text in found for step in _decodings(text)):
        if len(value) >= SHORTEST and value not in _met:
            _met.append(value)


def secret_in(url: str) -> str:
    """What kind of secret a URL contains, without quoting it; empty if it contains none."""
    scheme, separator, rest = url.partition("://")
    if _credentials(scheme + separator, rest)[1]:
        return "password"
    names = [re.split(r"\W", name.rstrip("\"'= :"))[-1] for name, _ in _NAMED.findall(url)]
    return f"signature ({', '.join(sorted(names))})" if names else ""


def clean_cause(error: BaseException) -> Exception:
    """An error to raise another one from, with `error` and its traceback as text without secrets: no formatter that logs the
    other error shows any."""
    cause = RuntimeError(redacted(f"{type(error).__name__}: {error}"))
    cause.add_note(redacted("".join(traceback.format_exception(error))))
    return cause


class RedactingFormatter(logging.Formatter):
    """A formatter whose lines and tracebacks contain no secrets."""

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        return redacted(super().format(record))


def _without_credentials(match: re.Match[str]) -> str:
    scheme, rest = match.groups()
    user, password = _credentials(scheme, rest)
    if not (user or password):
        return match[0]
    return f"{scheme}{MASK}@{rest[_end_of_credentials(rest, bool(password)) :]}"


def _credentials(scheme: str, rest: str) -> tuple[str, str]:
    """User and password in what follows a URL's scheme; both empty if it has neither."""
    name = re.split(r"[:%]", scheme.lower(), maxsplit=1)[0]
    authority = _authority(rest)
    at = _TO_LAST_AT.match(authority)
    before_at = authority if at is None else at[1]
    colon = re.search(_COLON, before_at, re.IGNORECASE)
    if at is None and (colon is None or _TO_LAST_AT.match(rest) is None):
        return "", ""
    if at is None and _PORT.fullmatch(authority) and name not in _WITHOUT_PORTS:
        return "", ""
    if before_at == MASK or (colon is None and name in _CONTAINERS):
        return "", ""
    if colon is None:
        return before_at, ""
    last = _TO_LAST_AT.match(rest)
    assert last is not None
    return before_at[: colon.start()], last[1][colon.end() :]


def _authority(rest: str) -> str:
    match = _AUTHORITY.match(rest)
    return "" if match is None else match[0]


def _end_of_credentials(rest: str, has_password: bool) -> int:
    """A user without a password ends before the first slash; a password may contain anything, even a slash."""
    match = _TO_LAST_AT.match(rest if has_password else _authority(rest))
    return 0 if match is None else match.end()


def _decodings(text: str) -> Iterator[str]:
    """`text`, then with its percent-encoding undone step by step."""
    yield text
    while (decoded := unquote(text)) != text:
        text = decoded
        yield text


def _known() -> list[str]:
    """Sorted by length, longest first, since one may be part of another."""
    variables = [
        value for name, value in os.environ.items() if len(value) >= SHORTEST and _SECRET_VARIABLE.search(name)
    ]
    return sorted({*variables, *_met}, key=lambda value: (-len(value), value))


@functools.lru_cache(maxsize=128)
def _spelled(value: str) -> re.Pattern[str]:
    """`value`, each character as it is, behind backslashes, or percent-encoded."""
    return re.compile("".join(map(_character, value)))


def _character(char: str) -> str:
    if char in " +":  # a plus may stand for a space
        return rf"(?:[ +]|{_PERCENT}(?i:20|2B))"
    encoded = "".join(f"{_PERCENT}(?i:{byte:02X})" for byte in char.encode("utf-8", "surrogateescape"))
    return rf"(?:\\*{re.escape(char)}|{encoded})"
