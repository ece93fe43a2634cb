"""A web server that offers models as the hub does: `/REPO/resolve/REVISION/FILE`, resumable, some of them behind a token."""

from __future__ import annotations

import contextlib
import functools
import http.server
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

TOKEN = "hf_token_of_an_account"


@dataclass
class Site:
    """What a test server offers, and what it was asked."""

    files: dict[str, bytes]
    resumes: bool = True
    breaks_after: int | None = None
    """Bytes of an answer after which the connection is cut."""
    breaks: str = ""
    """How the paths end whose answers are cut; by default all."""
    gated: tuple[str, ...] = ()
    """Beginnings of the paths that it gives with `TOKEN` only."""
    elsewhere: str = ""
    """It sends on to itself, to this beginning of a path, for what it has there; the hub keeps large files on other hosts."""
    asked: list[tuple[str, str | None]] = field(default_factory=list)
    """Path and Range of each request."""
    tokens: set[str] = field(default_factory=set)
    """Paths that were asked for with a token."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers for a site."""

    def __init__(self, site: Site, *args: object) -> None:
        self.site = site
        super().__init__(*args)  # type: ignore[arg-type]

    def do_GET(self) -> None:
        wanted, token = self.headers.get("Range"), self.headers.get("Authorization")
        self.site.asked.append((self.path, wanted))
        if token is not None:
            self.site.tokens.add(self.path)
        if self.path.startswith(self.site.gated) and token != f"Bearer {TOKEN}":
            self.send_error(401)
            return
        if self.site.elsewhere and self.site.elsewhere + self.path in self.site.files:
            self.send_response(302)
            self.send_header("Location", self.site.elsewhere + self.path)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        body = self.site.files.get(self.path)
        if body is None:
            self.send_error(404)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", wanted)[1]) if wanted and self.site.resumes else 0
        if start >= len(body) > 0:
            self.send_error(416)
            return
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(body) - start))
        self.end_headers()
        with contextlib.suppress(ConnectionError):  # the client may have seen enough
            cut = self.site.breaks_after if self.path.endswith(self.site.breaks) else None
            self.wfile.write(body[start:][:cut])

    def log_message(self, *_: object) -> None:
        pass


@contextlib.contextmanager
def served(site: Site) -> Iterator[str]:
    """The address of the site, until the block ends."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, site)) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
