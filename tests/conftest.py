"""Fixtures of several test packages."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Generator, Iterator
from pathlib import Path

import hypothesis
import pytest
import standins
from standins import STAGES, Bench

# How long an example takes, and drawing it, is the machine's business.
hypothesis.settings.register_profile(
    "any-machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any-machine")


@pytest.hookimpl(wrapper=True)
def pytest_report_to_serializable() -> Generator[None, object, object]:
    """What a test logs or fails with may hold names that are no text (lone surrogates), which xdist cannot hand over."""
    return as_text((yield))


def as_text(value: object) -> object:
    """The same with what is no text spelled out."""
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {as_text(key): as_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(as_text(item) for item in value)
    return value


@pytest.fixture(autouse=True)
def _verbosity() -> Iterator[None]:
    """Commands run within this process set it for good: `--quiet` of one test would hide the warnings of another."""
    from scenegen.messages.progress import OWN_LOGGERS

    loggers = [logging.getLogger(), *map(logging.getLogger, OWN_LOGGERS)]
    levels = [logger.level for logger in loggers]
    yield
    for logger, level in zip(loggers, levels, strict=True):
        logger.setLevel(level)


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    """Puts the stand-ins into `stages.graph`."""
    from stages import graph

    bench = Bench()
    monkeypatch.setattr(standins, "BENCH", bench)
    for stage in STAGES:
        monkeypatch.setattr(graph, stage.name.upper(), stage)
    # What they did is told by this process, so there are no graphics cards.
    monkeypatch.setattr("scenegen.compute.devices.find_spec", lambda name: None)
    return bench


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """A file the stand-ins take for a photo."""
    path = tmp_path / "photo.jpg"
    path.write_text("picture")
    return path


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Address of an S3 server on this machine; what reads the environment finds it and may write there."""
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        patch.setenv("AWS_ACCESS_KEY_ID", "tester")
        patch.setenv("AWS_SECRET_ACCESS_KEY", "a-secret-of-the-tests")
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def bucket_url(s3_server: str) -> str:
    """URL of a new, empty bucket."""
    import s3fs

    name = f"b{uuid.uuid4().hex}"
    s3fs.S3FileSystem().mkdir(name)
    return f"s3://{name}"
