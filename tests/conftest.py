"""Fixtures of all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator


def pytest_addoption(parser: pytest.Parser) -> None:
    """The long form of tests that have one, and where the kernels' tests compute."""
    parser.addoption("--soak", action="store_true", help="repeat faults until leaks would show")
    parser.addoption("--device", default="cpu", help="where the tests of the kernels compute: cpu or cuda")


@pytest.fixture(scope="session")
def soak(request: pytest.FixtureRequest) -> bool:
    """Whether tests run in their long form."""
    return bool(request.config.getoption("--soak"))


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A real server on a free port, shared by the whole session."""
    with running_server() as server:
        assert server.get("/readyz") == (200, {"state": "ready"})
        yield server
