"""The version of this package."""

from __future__ import annotations

from functools import cache

__all__ = ["package_version"]


@cache  # the search for it takes longer than a small call
def package_version() -> str:
    """The version of the installed distribution."""
    from importlib.metadata import PackageNotFoundError, version  # takes longer than the rest of this package

    try:
        return version("matfn")
    except PackageNotFoundError:
        return "unknown"
