"""One Prefect server for all tests of the flows that need one and no worker."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def server() -> Iterator[None]:
    """A Prefect server of these tests' own, with an empty database."""
    importlib.import_module("flows")  # sets what Prefect reads on import
    from prefect.testing.utilities import prefect_test_harness

    with prefect_test_harness(server_startup_timeout=600):
        yield
