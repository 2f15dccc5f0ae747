"""Settings of a client that every request uses: address, key, timeouts."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any, Final

from matfn.endpoint import Endpoint
from matfn.exchange import Prepared, prepare
from matfn.retry import RetryPolicy
from matfn.triangles import TRIANGLE_HEADER

if TYPE_CHECKING:
    from collections.abc import Sequence

    from matfn.http1 import Request
    from matfn.invocation import Invocation
    from matfn.limits import Limits

__all__ = ["DEFAULT_RETRIES", "DEFAULT_TIMEOUT_S", "DEFAULT_URL", "Session", "package_version"]

DEFAULT_URL: Final = "http://127.0.0.1:8000"
DEFAULT_TIMEOUT_S: Final = 300.0
DEFAULT_RETRIES: Final = 5

_GRACE_S: Final = 1.0  # the server says itself that a deadline passed; its word may take this long to arrive


@dataclass(frozen=True, slots=True)
class Session:
    """A client's settings.

    Attributes:
        endpoints: where the servers are.
        policy: when to try again.
        timeout: seconds that one attempt may take, None for as long as it takes.
        api_key: sent as a bearer token.
        triangles: whether symmetric inputs and answers pass as one triangle.
    """

    endpoints: tuple[Endpoint, ...]
    policy: RetryPolicy
    timeout: float | None
    api_key: str | None = field(default=None, repr=False)
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
    ) -> Session:
        """The settings from a client's arguments, with MATFN_URL and MATFN_API_KEY for what was not given."""
        if max_retries < 0:
            raise ValueError(f"max_retries={max_retries} is negative; 0 means a single attempt")
        if timeout is not None and not 0 < timeout < math.inf:
            raise ValueError(f"timeout={timeout} is no number of seconds above 0; None waits for as long as it takes")
        key = api_key or os.environ.get("MATFN_API_KEY") or None
        return cls(_endpoints(base_url), RetryPolicy(max_retries), timeout, key, triangles)

    def prepared(self, invocation: Invocation[Any], limits: Limits) -> Prepared[Any]:
        """The call as it will be sent; raises what `prepare` raises."""
        prepared = prepare(invocation, limits)
        return prepared.in_triangles() if self.triangles else prepared

    def addressed(self, request: Request, name: str = "") -> Request:
        """The request with the headers that all requests have; a retry goes by the name that its refusal had."""
        headers = [("User-Agent", f"matfn/{package_version()}"), ("Accept-Encoding", "identity")]
        if self.api_key:
            headers.append(("Authorization", f"Bearer {self.api_key}"))
        if self.triangles:
            headers.append((TRIANGLE_HEADER, "U"))
        if name:
            headers.append(("X-Request-Id", name))
        return replace(request, headers=(*headers, *request.headers))

    def patience(self, deadline: float | None, elapsed: float) -> float | None:
        """Seconds that the next attempt may take: the timeout, or less where the deadline comes first."""
        if deadline is None:
            return self.timeout
        remaining = max(deadline - elapsed, 0.0) + _GRACE_S
        return remaining if self.timeout is None else min(remaining, self.timeout)


def _endpoints(base_url: str | Sequence[str] | None) -> tuple[Endpoint, ...]:
    """Where the servers are, each once; MATFN_URL may hold several with spaces between."""
    given = (os.environ.get("MATFN_URL", "").split() or DEFAULT_URL) if base_url is None else base_url
    urls = [given] if isinstance(given, str) else [*given]
    if not urls or not all(urls):
        raise ValueError(f"base_url={base_url!r} names no server; None takes MATFN_URL, then {DEFAULT_URL}")
    return tuple(dict.fromkeys(Endpoint.parse(url) for url in urls))


@cache  # the search for it takes longer than a small call
def package_version() -> str:
    """The version of the installed distribution."""
    try:
        return version("matfn")
    except PackageNotFoundError:
        return "unknown"
