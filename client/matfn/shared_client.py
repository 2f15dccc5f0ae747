"""The LocalClient of callers that name no client."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matfn.local import LocalClient

__all__ = ["shared_client"]


@cache
def shared_client() -> LocalClient:
    """The one LocalClient of this process that all callers share; it is made on first use."""
    from matfn.local import LocalClient

    return LocalClient()
