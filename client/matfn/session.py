"""Settings of a client that every request uses: address, key, timeouts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from enum import Enum
from numbers import Real
from typing import TYPE_CHECKING, Any, Final

from matfn.endpoint import Endpoint
from matfn.exchange import Prepared, prepare
from matfn.headers import checked_headers, overridden
from matfn.http1 import Request
from matfn.propagation import trace_headers
from matfn.retry import RetryPolicy
from matfn.triangles import TRIANGLE_HEADER
from matfn.version import package_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matfn.invocation import Invocation
    from matfn.limits import Limits

__all__ = ["DEFAULT_RETRIES", "DEFAULT_TIMEOUT_S", "DEFAULT_URL", "Session", "State", "Unchanged", "package_version"]

DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S: Final = 300.0
DEFAULT_RETRIES: Final = 5

_GRACE_S: Final = 1.0  # the server says itself that a deadline passed; its word may take this long to arrive


class Unchanged(Enum):
    """Stands for an argument that was not given, where None has a meaning."""

    UNCHANGED = "unchanged"

    def __repr__(self) -> str:
        return "..."


@dataclass(slots=True)
class State:
    """State shared by a client and those that its `with_options` returns: the server's limits, and its own end."""

    limits: Limits | None = None
    closed: bool = False


@dataclass(frozen=True, slots=True)
class Session:
    """A client's settings.

    Attributes:
        endpoints: where the servers are.
        policy: when to try again.
        timeout: seconds that one attempt may take, None for as long as it takes.
        headers: of every request.
        triangles: whether symmetric inputs and answers pass as one triangle.
    """

    endpoints: tuple[Endpoint, ...]
    policy: RetryPolicy
    timeout: float | None
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # the API key is among them
    triangles: bool = False

    @classmethod
    def of(
        cls,
        base_url: str | Sequence[str] | None,
        api_key: str | None,
        timeout: float | None,
        max_retries: int,
        *,
        triangles: bool,
        headers: Mapping[str, str] | None = None,
    ) -> Session:
        """The settings from a client's arguments, with MATFN_URL and MATFN_API_KEY for what was not given."""
        own = [("User-Agent", f"matfn/{package_version()}"), ("Accept-Encoding", "identity")]
        if key := api_key or os.environ.get("MATFN_API_KEY"):
            own.append(("Authorization", f"Bearer {key}"))
        if triangles:
            own.append((TRIANGLE_HEADER, "U"))
        added = checked_headers(headers or {})
        if api_key and "authorization" in {name.lower() for name, _ in added}:
            raise ValueError("api_key and the header Authorization are given; one of them is enough")
        return cls(_endpoints(base_url), _policy(max_retries), _seconds(timeout), overridden(own, added), triangles)

    def changed(
        self,
        timeout: float | Unchanged | None,
        max_retries: int | Unchanged,
        headers: Mapping[str, str] | None,
    ) -> Session:
        """These settings with others in place of some; headers are added, or replace those of the same name."""
        return Session(
            self.endpoints,
            self.policy if isinstance(max_retries, Unchanged) else _policy(max_retries),
            self.timeout if isinstance(timeout, Unchanged) else _seconds(timeout),
            overridden(self.headers, checked_headers(headers or {})),
            self.triangles,
        )

    def prepared(self, invocation: Invocation[Any], limits: Limits) -> Prepared[Any]:
        """The call as it will be sent; raises what `prepare` raises."""
        prepared = prepare(invocation, limits)
        return prepared.in_triangles() if self.triangles else prepared

    def addressed(self, request: Request, name: str = "") -> Request:
        """The request with the headers that all requests have, and those of the active span.

        A retry goes by the name that its refusal had.
        """
        headers = overridden(trace_headers(), (*self.headers, *request.headers))
        if name:
            headers = overridden([("X-Request-Id", name)], headers)
        return Request(request.method, request.target, headers, request.body)

    @property
    def where(self) -> str:
        """The servers, as a client is written."""
        urls = [str(endpoint) for endpoint in self.endpoints]
        return repr(urls[0] if len(urls) == 1 else urls)

    def patience(self, deadline: float | None, elapsed: float) -> float | None:
        """Seconds that the next attempt may take: the timeout, or less where the deadline comes first."""
        if deadline is None:
            return self.timeout
        remaining = max(deadline - elapsed, 0.0) + _GRACE_S
        return remaining if self.timeout is None else min(remaining, self.timeout)


def _policy(max_retries: int) -> RetryPolicy:
    if max_retries < 0:
        raise ValueError(f"max_retries={max_retries} is negative; 0 means a single attempt")
    return RetryPolicy(max_retries)


def _seconds(timeout: float | None) -> float | None:
    if timeout is not None and not isinstance(timeout, Real):
        raise TypeError(f"timeout={timeout!r} is no number of seconds; None waits for as long as it takes")
    if timeout is not None and not 0 < timeout < math.inf:
        raise ValueError(f"timeout={timeout} is no number of seconds above 0; None waits for as long as it takes")
    return timeout


def _endpoints(base_url: str | Sequence[str] | None) -> tuple[Endpoint, ...]:
    """Where the servers are, each once; MATFN_URL may hold several with spaces between."""
    given = (os.environ.get("MATFN_URL", "").split() or DEFAULT_URL) if base_url is None else base_url
    urls = [given] if isinstance(given, str) else [*given]
    if not urls or not all(urls):
        raise ValueError(f"base_url={base_url!r} names no server; None takes MATFN_URL, then {DEFAULT_URL}")
    return tuple(dict.fromkeys(Endpoint.parse(url) for url in urls))
