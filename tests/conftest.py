"""Fixtures of all tests."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING

import pytest

from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

OWN = "MATFN_"
"""What this user's services and clients are told is no matter of the tests'."""
TERMINAL = {"COLUMNS", "LINES", "TERM", "FORCE_COLOR", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "GITHUB_ACTIONS"}
"""What commands print is read without colours, and by its lines."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where and with what the kernels' tests compute."""
    parser.addoption("--device", default="cpu", help="where the tests of the kernels compute: cpu or cuda")
    parser.addoption(
        "--kernels",
        help="the only kernels in C to use: amx, avx512, avx2, baseline, none, or own, those of this processor",
    )
    parser.addoption("--library", help="the compiled kernels in C, in place of those beside their sources")
    parser.addoption("--blas", help="the only BLAS to use, at any order: mkl, openblas or onednn")
    parser.addoption("--every-case", action="store_true", help="all cases of the tests that are marked as sampled")


def pytest_configure(config: pytest.Config) -> None:
    """Leaves the shell's settings behind, and chooses the kernels in C, before any module asks for either."""
    patch = pytest.MonkeyPatch()
    config.add_cleanup(patch.undo)
    for name in list(os.environ):
        if name.startswith(OWN) or name in TERMINAL:
            patch.delenv(name)
    if path := config.getoption("--library"):
        import machines

        machines.force_library(patch, path)
    if name := config.getoption("--kernels"):
        import machines

        machines.force_kernels(patch, name)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves the same cases of a sampled test out of every run, unless all are wanted or one is named."""
    if config.getoption("--every-case") or any("::" in argument for argument in config.args):
        return
    left_out = [item for item in items if zlib.crc32(item.nodeid.encode()) % _one_in(item)]
    config.hook.pytest_deselected(items=left_out)
    dropped = set(left_out)
    items[:] = [item for item in items if item not in dropped]


def _one_in(item: pytest.Item) -> int:
    mark = item.get_closest_marker("sampled")
    return 1 if mark is None else int(mark.args[0])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """What a process that stands for another machine computed with, by its own account."""
    if config.getoption("--kernels"):
        import machines

        terminalreporter.write_line(f"computed with {machines.described()}")


@pytest.fixture(autouse=True)
def forced_blas(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The BLAS that was asked for."""
    if name := request.config.getoption("--blas"):
        import machines

        machines.force_blas(monkeypatch, name)


@pytest.fixture(scope="session")
def server() -> Iterator[ServerProcess]:
    """A real server on a free port, shared by the whole session."""
    with running_server() as server:
        assert server.get("/readyz") == (200, {"state": "ready"})
        yield server
