"""How the browser's tests open pages."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from playwright.sync_api import Page

__all__ = ["Opening"]


class Opening(Protocol):
    """Opens a page of a server in a context of its own."""

    def __call__(self, fragment: str = "", url: str = "", **context: Any) -> Page:
        """The page at this fragment, of the session's server or another one."""
