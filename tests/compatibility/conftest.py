"""Servers of this tree and of the last release; `make compatibility` runs the tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from processes import ServerProcess, running_server
from released import Release, last_release

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def release(tmp_path_factory: pytest.TempPathFactory) -> Release:
    """The last release."""
    return last_release(tmp_path_factory.mktemp("release"))


@pytest.fixture(scope="session")
def new_server() -> Iterator[ServerProcess]:
    """A server of this tree."""
    with running_server() as server:
        yield server


@pytest.fixture(scope="session")
def old_server(release: Release) -> Iterator[ServerProcess]:
    """A server of the release."""
    with release.serving() as server:
        yield server
