"""What the adapters' tests share; `make test-adapters` runs them, with the libraries that they compare with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import matfn

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def client() -> Iterator[matfn.LocalClient]:
    """A client on the CPU."""
    with matfn.LocalClient(device="cpu") as client:
        yield client
