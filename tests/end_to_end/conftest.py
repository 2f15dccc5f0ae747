"""Fixtures of the tests of whole processes: servers of some settings, which no test harms."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from forked_python import ForkedPython, forked_python
from guarded_server import guarded_server
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def python() -> Iterator[ForkedPython]:
    """Runs Python programs."""
    with forked_python() as python:
        yield python


@pytest.fixture(scope="session")
def two_workers() -> Iterator[ServerProcess]:
    """A server with two workers."""
    with running_server(workers="2") as server:
        yield server


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that has a key, takes small bodies only, allows two origins and has a site."""
    with guarded_server(tmp_path_factory.mktemp("guarded")) as server:
        yield server
