"""The studio's server: the page, and what it asks for as JSON.

Whoever does not know the token in the address finds nothing. Requests under another host name, or from another site's
pages, are refused, and so is a body that is too large. A path names a route or a file of the manifest, never a file of the disk.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter, ValidationError
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from scenegen.errors import InputError, OutdatedError, ScenegenError, UsageError, one_line
from scenegen.records import ObjectId, PromptEdit, Record
from scenegen.untrusted.documents import parse_json
from studio.making import Choices, Extent
from studio.session import Asked, Session

logger = logging.getLogger(__name__)

MAX_BODY_BYTES = 8 << 20
MESHES, PICTURES = "meshes/", "pictures/"
"""Begin the paths that take files."""
MAX_FILE_BYTES = 128 << 20
MAX_DIGITS = 9
"""Of a number in an address."""
QUIET_S = 15.0
"""After so long without news a line is sent, so that a broken connection shows."""
PAGE = {
    "": ("index.html", "text/html; charset=utf-8"),
    "studio.js": ("studio.js", "text/javascript; charset=utf-8"),
    "studio.css": ("studio.css", "text/css; charset=utf-8"),
}
HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob: data:; connect-src 'self' blob:; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class News:
    """Tells every page that something has changed. `tell` may be called from any thread."""

    def __init__(self) -> None:
        self._waiting: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()
        self._ended = False

    def end(self) -> None:
        """There will be no more: whoever listens stops."""
        self._ended = True
        self.tell()

    def tell(self) -> None:
        """Wakes all who listen."""
        for loop, event in tuple(self._waiting):
            loop.call_soon_threadsafe(event.set)

    async def listen(self, quiet_s: float = QUIET_S) -> AsyncIterator[bool]:
        """True at once and after every change, False after a quiet time."""
        event = asyncio.Event()
        mine = (asyncio.get_running_loop(), event)
        self._waiting.add(mine)
        try:
            yield True
            while not self._ended:
                try:
                    await asyncio.wait_for(event.wait(), quiet_s)
                except TimeoutError:
                    yield False
                else:
                    event.clear()
                    yield True
        finally:
            self._waiting.discard(mine)


class Guard:
    """Lets only the studio's own page through, and adds the headers that keep it to itself.

    Args:
        app: what is guarded.
        token: first part of every path.
        port: that the server listens at.
    """

    def __init__(self, app: ASGIApp, token: str, port: int) -> None:
        self._app, self._token = app, token
        self._hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See ASGI."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refused = self._refused(scope)
        await (self._app if refused is None else refused)(scope, receive, with_headers)

    def _refused(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        host, origin = headers.get("host", ""), headers.get("origin")
        reads = scope["method"] in ("GET", "HEAD")
        if host not in self._hosts:
            return PlainTextResponse("This studio is not at this address.", 421)
        if (origin is None and not reads) or (origin is not None and origin != f"http://{host}"):
            return PlainTextResponse("Requests must come from the studio's own page.", 403)
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return PlainTextResponse("Requests must come from the studio's own page.", 403)
        first, _, rest = str(scope["path"]).removeprefix("/").partition("/")
        if not secrets.compare_digest(first.encode(), self._token.encode()):
            return PlainTextResponse("Not found. The address has a token: use it as `scenegen studio` prints it.", 404)
        most = MAX_FILE_BYTES if rest.startswith((MESHES, PICTURES)) else MAX_BODY_BYTES
        length = headers.get("content-length", "0")
        if not reads and not (length.isdecimal() and len(length) <= MAX_DIGITS and int(length) <= most):
            return PlainTextResponse(f"A request may have {most} bytes at most.", 413)
        scope["path"] = f"/{rest}"
        scope["raw_path"] = scope["path"].encode()
        return None


def studio_app(session: Session, news: News, token: str, port: int) -> ASGIApp:
    """The server's application. `news` is what `session` tells its changes."""

    async def page(request: Request) -> Response:
        name, media_type = PAGE[request.url.path.removeprefix("/")]
        return Response((files("studio") / "page" / name).read_bytes(), media_type=media_type)

    async def state(request: Request) -> Response:
        return await _json(session.state)

    async def photo(request: Request) -> Response:
        return FileResponse(await run_in_threadpool(session.photo), media_type="image/png")

    async def other_photo(request: Request) -> Response:
        path = await run_in_threadpool(session.other_photo, _number(request.path_params["number"]))
        return FileResponse(path, media_type="image/png")

    async def scene(request: Request) -> Response:
        return FileResponse(await run_in_threadpool(session.scene), media_type="model/gltf-binary")

    async def depth(request: Request) -> Response:
        return Response(await run_in_threadpool(session.depth), media_type="image/png")

    async def made(request: Request) -> Response:
        path = await run_in_threadpool(session.made_file, request.path_params["name"])
        return FileResponse(path, filename=path.name)

    async def archive(request: Request) -> Response:
        folder = await run_in_threadpool(tempfile.mkdtemp, prefix="scenegen-studio-")
        done = BackgroundTask(shutil.rmtree, folder, ignore_errors=True)
        try:
            path = await run_in_threadpool(session.archive, Path(folder))
        except BaseException:
            await done()
            raise
        return FileResponse(path, filename=path.name, media_type="application/zip", background=done)

    async def thumbnail(request: Request) -> Response:
        path = await run_in_threadpool(session.thumbnail, _number(request.path_params["number"]))
        return FileResponse(path, media_type="image/png")

    async def file(request: Request) -> Response:
        kind: Literal["mesh", "picture"] = "mesh" if request.url.path.startswith(f"/{MESHES}") else "picture"
        object_id = TypeAdapter(ObjectId).validate_python(_number(request.path_params["object"]))
        revision = _number(request.query_params.get("revision", ""))
        content = await _content(request, MAX_FILE_BYTES)
        await run_in_threadpool(session.take_file, kind, object_id, revision, content)
        return await _json(session.state)

    async def candidates(request: Request) -> Response:
        asked = Choices.model_validate(await _body(request))
        await run_in_threadpool(session.make_candidates, asked)
        return Response(status_code=202)

    async def answer(request: Request) -> Response:
        asked = PromptEdit.model_validate(await _body(request))
        return await _json(lambda: session.answer(asked))

    async def steps(request: Request) -> Response:
        asked = Asked.model_validate(await _body(request))
        await run_in_threadpool(session.take, asked)
        return await _json(session.state)

    def making(extent: Extent) -> Callable[[Request], Awaitable[Response]]:
        async def make(request: Request) -> Response:
            await run_in_threadpool(session.make, extent)
            return Response(status_code=202)

        return make

    async def cancel(request: Request) -> Response:
        await run_in_threadpool(session.maker.cancel)
        return Response(status_code=204)

    async def events(request: Request) -> Response:
        return StreamingResponse(event_stream(session, news), media_type="text/event-stream")

    routes = [
        *(Route(f"/{name}", page) for name in PAGE),
        Route("/state", state),
        Route("/photo.png", photo),
        Route("/photos/{number}.png", other_photo),
        Route("/scene.glb", scene),
        Route("/depth.png", depth),
        Route("/made/{name:path}", made),
        Route("/scene.zip", archive),
        Route("/thumbnails/{number}.png", thumbnail),
        Route(f"/{MESHES}{{object}}", file, methods=["POST"]),
        Route(f"/{PICTURES}{{object}}", file, methods=["POST"]),
        Route("/candidates", candidates, methods=["POST"]),
        Route("/answer", answer, methods=["POST"]),
        Route("/steps", steps, methods=["POST"]),
        Route("/make", making("preview"), methods=["POST"]),
        Route("/files", making("files"), methods=["POST"]),
        Route("/publish", making("published"), methods=["POST"]),
        Route("/cancel", cancel, methods=["POST"]),
        Route("/events", events),
    ]
    app = Starlette(routes=routes, exception_handlers={ScenegenError: _said, ValidationError: _malformed})
    return Guard(app, token, port)


async def event_stream(session: Session, news: News) -> AsyncIterator[str]:
    """Server-sent events: the revision and how far the making is, at once and whenever they change."""
    last = ""
    async for changed in news.listen():
        if not changed:
            yield ": quiet\n\n"
            continue
        job, made = session.maker.job, session.maker.made
        now = json.dumps(
            {
                "revision": await run_in_threadpool(session.revision),
                "job": None if job is None else job.model_dump(mode="json"),
                "made": None if made is None else made.glb.sha256,
            }
        )
        if now != last:
            last = now
            yield f"data: {now}\n\n"


async def _json(found: Callable[[], Record]) -> Response:
    record = await run_in_threadpool(found)
    return Response(record.model_dump_json(), media_type="application/json")


async def _body(request: Request) -> Any:
    """The body's value.

    Raises:
        UsageError: if it is too large or no JSON.
    """
    content = await _content(request, MAX_BODY_BYTES)
    try:
        return parse_json(content)
    except ValueError as error:
        raise UsageError(f"a request must be JSON: {one_line(str(error), 200)}.") from error


async def _content(request: Request, most: int) -> bytes:
    """The body. Raises UsageError if it has more than `most` bytes."""
    content = bytearray()
    async for chunk in request.stream():
        content += chunk
        if len(content) > most:
            raise UsageError(f"a request may have {most} bytes at most.")
    return bytes(content)


def _number(text: str) -> int:
    """The number that an address has. Raises UsageError if it has none."""
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise UsageError(
            "the address must have a number; for a mesh or a picture, also the `revision` of the edits that it goes on from."
        )
    return int(text)


async def _said(request: Request, error: Exception) -> Response:
    """An error in scenegen's own words."""
    kinds = ((OutdatedError, 409), (UsageError, 422), (InputError, 404 if request.method == "GET" else 422))
    status = next((code for kind, code in kinds if isinstance(error, kind)), 500)
    if status == 500:
        logger.error("%s", error)
    return JSONResponse({"error": str(error)}, status)


async def _malformed(request: Request, error: Exception) -> Response:
    assert isinstance(error, ValidationError)
    first = error.errors(include_url=False, include_context=False)[0]
    where = one_line(".".join(str(part) for part in first["loc"]), 200)
    return JSONResponse({"error": f"`{where}`: {one_line(first['msg'], 200)}"}, 422)
