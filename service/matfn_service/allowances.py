"""Use of the device by each tenant against its limits: a pure structure without a clock.

- Requests count from their head to their answer, bytes from a call's place in the queue to its answer.
- Device seconds are a rate: a tenant has a minute's worth to begin with and at most, and gets its seconds a minute
  back all the time. A call is charged what it is predicted to take, and in the end what it took. It is refused while
  nothing is left, so that the last call before may take more than there was.
- Where several tenants share the server, one alone holds three quarters of the memory for calls at most.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from matfn_service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matfn_service.tenants import Tenant

__all__ = ["Allowances", "Use"]

_MINUTE: Final = 60.0
_LONGEST_WAIT: Final = 60.0
_SOON: Final = 1.0  # when another answer of the tenant is likely to have gone out
_MOST_BYTES: Final = 0.75


@dataclass(slots=True)
class Use:
    """Requests and bytes of a tenant in flight, refusals by its limits, and the device seconds left to it."""

    tenant: Tenant
    requests: int = 0
    bytes: int = 0
    refused: int = 0
    left: float = math.inf
    at: float = -math.inf

    def refill(self, now: float) -> None:
        """Gives device seconds back for the time that has passed."""
        if self.tenant.seconds is not None:
            self.left = min(self.tenant.seconds, self.left + (now - self.at) * self.tenant.seconds / _MINUTE)
            self.at = now


class Allowances:
    """The use of all tenants.

    Args:
        tenants: those with keys.
        bound: bytes of all calls that the server holds.
    """

    def __init__(self, tenants: Iterable[Tenant], bound: int) -> None:
        self._used = {tenant.name: Use(tenant) for tenant in tenants}
        self._bound = bound

    def __iter__(self) -> Iterator[Use]:
        """The use of every tenant with a key."""
        return iter(self._used.values())

    def renew(self, tenants: Iterable[Tenant]) -> None:
        """Takes these tenants in place of the former ones; what those of the same name have in flight still counts."""
        before, self._used = self._used, {tenant.name: Use(tenant) for tenant in tenants}
        for name, use in before.items():
            if name in self._used:
                kept = self._used[name]
                kept.requests, kept.bytes, kept.refused = use.requests, use.bytes, use.refused

    def weight_of(self, name: str) -> float:
        """The weight of a tenant."""
        use = self._used.get(name)
        return 1.0 if use is None else use.tenant.weight

    def enter(self, name: str) -> None:
        """Counts a request that begins.

        Raises:
            Refusal: `busy` if the tenant has as many as it may have.
        """
        use = self._used.get(name)
        if use is None:
            return
        most = use.tenant.requests
        if most is not None and use.requests >= most:
            raise self._refused(use, f"has {use.requests} requests in flight, as many as it may (requests={most})")
        use.requests += 1

    def leave(self, name: str) -> None:
        """Counts a request that ends."""
        if name in self._used:
            self._used[name].requests = max(0, self._used[name].requests - 1)

    def check(self, name: str, size: int, now: float) -> None:
        """Checks that a tenant may have a call of this size computed now.

        Raises:
            Refusal: `too_large` if it never may, `busy` if it may later.
        """
        use = self._used.get(name)
        if use is None:
            return
        self._check_bytes(use, size)
        use.refill(now)
        rate = use.tenant.seconds
        if rate is not None and use.left <= 0:
            wait = min(_LONGEST_WAIT, _SOON - use.left * _MINUTE / rate)
            raise self._refused(use, f"has used its {rate:g} device seconds a minute (seconds={rate:g})", wait)

    def take(self, name: str, size: int, seconds: float) -> None:
        """Counts a call that waits or runs from now on, predicted to take so many device seconds."""
        use = self._used.get(name)
        if use is not None:
            use.bytes += size
            use.left -= seconds

    def charge(self, name: str, seconds: float) -> None:
        """Charges device seconds beyond those predicted, or gives them back."""
        use = self._used.get(name)
        if use is not None:
            use.left -= seconds

    def release(self, name: str, size: int) -> None:
        """Counts a call that has ended."""
        if name in self._used:
            self._used[name].bytes = max(0, self._used[name].bytes - size)

    def _check_bytes(self, use: Use, size: int) -> None:
        most = use.tenant.bytes
        if most is not None and size > most:
            use.refused += 1
            raise Refusal(
                "too_large",
                f"inputs and outputs of the call take {size} bytes; the API key {use.tenant.name} may have {most} in"
                f" flight (bytes={most})",
                "send fewer matrices per call",
            )
        if most is not None and use.bytes + size > most:
            raise self._refused(use, f"has {use.bytes} bytes in flight; {size} more exceed its limit (bytes={most})")
        share = int(_MOST_BYTES * self._bound)
        if len(self._used) > 1 and use.bytes and use.bytes + size > share:
            raise self._refused(use, f"has {use.bytes} bytes in flight; beyond {share} they are for other keys")

    def _refused(self, use: Use, reason: str, wait: float = _SOON) -> Refusal:
        use.refused += 1
        return Refusal("busy", f"the API key {use.tenant.name} {reason}", retry_after=wait)
