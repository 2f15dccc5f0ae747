"""Clients and servers of different versions: what they speak in common, and refusals that may owe to the difference."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from matfn.errors import ProtocolError
from matfn.version import package_version

if TYPE_CHECKING:
    from matfn.errors import Problem

__all__ = ["WIRE_VERSIONS", "require_common_wire", "server_version", "with_versions"]

WIRE_VERSIONS: Final = (1,)
"""Versions of the wire format, and so of the paths below /v1, that this package reads and writes."""

_UNTOLD: Final = "of a version that it does not tell, such as matfn 0.1.0"
_OF_VERSIONS: Final = frozenset({"invalid_parameter", "malformed"})
"""Codes of what another version may know, or knew, besides `unknown_function`."""


def server_version(document: object) -> str:
    """The server's version by its answer of GET /v1/functions; empty if it tells none."""
    found = document.get("version") if isinstance(document, dict) else None
    return found if isinstance(found, str) else ""


def require_common_wire(document: object) -> None:
    """Refuses a server that speaks no version of the wire which this client speaks.

    Raises:
        ProtocolError: which names both versions; a server that tells none speaks the first.
    """
    told = document.get("wire") if isinstance(document, dict) else None
    versions = [one for one in told if type(one) is int] if isinstance(told, list) else []
    if versions and not set(versions) & set(WIRE_VERSIONS):
        theirs, ours = (", ".join(map(str, sorted(some))) for some in (versions, WIRE_VERSIONS))
        raise ProtocolError(
            f"the server is {_named(server_version(document))} and speaks version {theirs} of the wire; this client,"
            f" matfn {package_version()}, speaks version {ours}: install the client of the server's version"
        )


def with_versions(problem: Problem, server: str | None) -> Problem:
    """The problem, whose hint names both versions where it may come of their difference.

    Args:
        problem: the server's.
        server: the version that it told, empty if it told none; None if it was not asked.
    """
    own = package_version()
    differs = bool(server) and server != own and problem.code in _OF_VERSIONS
    if server is None or not (differs or (problem.code == "unknown_function" and server != own)):
        return problem
    words = f"the server is {_named(server)}, this client matfn {own}"
    return replace(problem, hint=f"{problem.hint}; {words}" if problem.hint else words)


def _named(server: str) -> str:
    return f"matfn {server}" if server else _UNTOLD
