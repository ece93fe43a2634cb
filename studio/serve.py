"""Opens a studio: a server for one scene, at an address of this machine that nobody else can know."""

from __future__ import annotations

import contextlib
import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from pathlib import Path

import uvicorn

from scenegen.compute.runtime import Runtime
from scenegen.errors import UsageError
from scenegen.store.store import Store
from studio.app import News, studio_app
from studio.session import Session

HOST = "127.0.0.1"
TOKEN_BYTES = 24


def serve(
    folder: Path,
    store: Store,
    runtime: Runtime,
    at_once: int,
    port: int,
    opens: bool,
    say: Callable[[str], None],
) -> None:
    """Serves the studio until it is interrupted.

    Args:
        folder: of the scene; its edits can be read.
        store: beside it.
        runtime: where to compute.
        at_once: objects made at once.
        port: to listen at; 0 for one that is free.
        opens: whether to open the page in the browser.
        say: gets the address.

    Raises:
        UsageError: if the port cannot be listened at.
    """
    news = News()
    session = Session(folder, store, runtime, at_once, news.tell)
    with contextlib.closing(session), _listening(port) as listening:
        token, port = secrets.token_urlsafe(TOKEN_BYTES), listening.getsockname()[1]
        address = f"http://{HOST}:{port}/{token}/"
        config = uvicorn.Config(
            studio_app(session, news, token, port),
            log_level="warning",
            server_header=False,
        )
        say(address)
        session.make("preview")
        if opens:
            threading.Timer(0.5, webbrowser.open, [address]).start()
        _Server(config, news).run(sockets=[listening])


def _listening(port: int) -> socket.socket:
    try:
        return socket.create_server((HOST, port))
    except (OSError, OverflowError) as error:
        raise UsageError(f"`port` {port} cannot be listened at ({error}); choose another, or none.") from error


class _Server(uvicorn.Server):
    """Ends what pages listen to before it waits for their connections to end."""

    def __init__(self, config: uvicorn.Config, news: News) -> None:
        super().__init__(config)
        self._news = news

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See `uvicorn.Server`."""
        self._news.end()
        await super().shutdown(sockets)
