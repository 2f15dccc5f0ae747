"""The ledger: bytes that requests take, charged before they are allocated, without an event loop or a clock.

Rules of this file:

- An account is one request's. What its caller can cause to be allocated is charged to it first, and released when the
  account is closed at the latest.
- The sums over all accounts stay within the bounds. A charge that no state of the server has room for is refused as
  `too_large`, another one as `busy`.
- Charges of one owner, a caller by name, are summed as well.

Accounts may be charged and closed in any thread.
"""

from __future__ import annotations

import threading
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from matfn_service.problems import Refusal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import TracebackType
    from typing import Self

__all__ = ["Account", "Bounds", "Kind", "Ledger"]

_SMALL: Final = 1 << 20
"""Bodies up to so many bytes may arrive while large ones take all of their share."""
_ARRIVING_SHARE: Final = 0.5


class Kind(StrEnum):
    """Uses of bytes."""

    ARRIVING = "arriving"
    """Bodies on their way, by their declared lengths, or as far as they have come."""
    BODIES = "bodies"
    """Bodies that have come."""
    DECODING = "decoding"
    """Values that are made while a body is decoded."""
    INPUTS = "inputs"
    """Inputs that are copied: broadcast, filled up from triangles, or read from text."""
    OUTPUTS = "outputs"
    """Outputs of calls that wait or run, on their workers and back."""
    WORKING = "working"
    """Working memory of matrices that take more than a batch is allowed."""
    ANSWERS = "answers"
    """Answers until their callers have read them."""
    CALLS = "calls"
    """Calls, certificates and all else that is small."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Most bytes that may be charged.

    Attributes:
        server: to all accounts together.
        request: to one account for the inputs and outputs of its calls.
    """

    server: int
    request: int


@dataclass(frozen=True, slots=True)
class Charges:
    """Bytes that a ledger holds at a moment.

    Attributes:
        bound: most bytes of all accounts together.
        held: bytes of each kind.
    """

    bound: int
    held: Mapping[Kind, int]


class Ledger:
    """The sums of all accounts.

    Args:
        bounds: what they may come to.
        wait: seconds until room may be expected.
    """

    def __init__(self, bounds: Bounds, wait: Callable[[], float]) -> None:
        self.bounds = bounds
        self.wait = wait
        self.refused = 0
        self._lock = threading.Lock()
        self._held = dict.fromkeys(Kind, 0)
        self._owners: Counter[str] = Counter()
        self._total = 0

    @property
    def total(self) -> int:
        """Bytes of all accounts."""
        return self._total

    @property
    def charges(self) -> Charges:
        """Bytes that it holds now."""
        return Charges(self.bounds.server, dict(self._held))

    def held(self, kind: Kind) -> int:
        """Bytes of this kind of all accounts."""
        return self._held[kind]

    def held_by(self, owner: str) -> int:
        """Bytes of all accounts of an owner."""
        return self._owners[owner]

    def account(self, owner: str = "") -> Account:
        """A new account, of a caller of this name."""
        return Account(self, owner)

    def _add(self, account: Account, charges: Mapping[Kind, int]) -> Refusal | None:
        """Charges all of it, or nothing and returns why."""
        with self._lock:
            refusal = self._refusal(account, charges)
            if refusal is None:
                for kind, size in charges.items():
                    if size:
                        self._change(account, kind, size)
            return refusal

    def _refusal(self, account: Account, charges: Mapping[Kind, int]) -> Refusal | None:
        """Why there is no room for charges; None if there is."""
        total, bounds = sum(charges.values()), self.bounds
        work = _work_in(charges)
        if total > bounds.server:
            return _never(total, bounds.server, "MATFN_MEMORY")
        if work > bounds.request:
            return _never(work, bounds.request, "MATFN_QUEUE_BYTES")
        if work and account.work + work > bounds.request:
            return self._later(work, "the calls before it", account.work, bounds.request, "MATFN_QUEUE_BYTES")
        if self._total + total > bounds.server:
            return self._later(total, "all requests", self._total, bounds.server, "MATFN_MEMORY")
        if Kind.ARRIVING in charges:
            return self._too_many_bodies(account, charges[Kind.ARRIVING])
        return None

    def _too_many_bodies(self, account: Account, size: int) -> Refusal | None:
        """Why a large body may not arrive now: senders that never end one must leave room for others."""
        own, share = account.held.get(Kind.ARRIVING, 0), int(self.bounds.server * _ARRIVING_SHARE)
        held = self._held[Kind.ARRIVING]
        if own + size <= _SMALL or held == own or held + size <= share:
            return None
        return self._later(size, "bodies on their way", held, share, "half of what MATFN_MEMORY leaves")

    def _later(self, size: int, who: str, held: int, bound: int, setting: str) -> Refusal:
        self.refused += 1
        detail = f"there is no room for {size} bytes: of {bound} ({setting}) {who} hold {held}"
        return Refusal("busy", detail, retry_after=self.wait())

    def _change(self, account: Account, kind: Kind, size: int) -> None:
        account.held[kind] = account.held.get(kind, 0) + size
        self._held[kind] += size
        self._total += size
        if account.owner:
            self._owners[account.owner] += size
            if not self._owners[account.owner]:
                del self._owners[account.owner]

    def _turn(self, account: Account, kind: Kind, into: Kind | None) -> None:
        """Turns all of a kind into another, or releases it."""
        with self._lock:
            size = account.held.get(kind, 0)
            if size:
                self._change(account, kind, -size)
                if into is not None:
                    self._change(account, into, size)

    def _end(self, account: Account) -> None:
        """Releases all that an account was charged."""
        with self._lock:
            for kind, size in account.held.items():
                if size:
                    self._change(account, kind, -size)


class Account:
    """The bytes charged to one request; as a context, it is closed at the end."""

    __slots__ = ("_ledger", "held", "owner")

    def __init__(self, ledger: Ledger, owner: str) -> None:
        self._ledger = ledger
        self.owner = owner
        self.held: dict[Kind, int] = {}

    def __enter__(self) -> Self:
        """The account."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Closes the account."""
        self.close()

    @property
    def work(self) -> int:
        """Bytes of inputs and outputs."""
        return _work_in(self.held)

    def charge(self, charges: Mapping[Kind, int]) -> None:
        """Charges all of it.

        Raises:
            Refusal: `too_large` if there could never be so much room, `busy` if there is none now; nothing is charged.
        """
        refusal = self._ledger._add(self, charges)  # noqa: SLF001 - two halves of one thing
        if refusal is not None:
            raise refusal

    def turn(self, kind: Kind, into: Kind) -> None:
        """Makes all bytes of one kind bytes of another."""
        self._ledger._turn(self, kind, into)  # noqa: SLF001

    def release(self, kind: Kind) -> None:
        """Releases all bytes of a kind."""
        self._ledger._turn(self, kind, None)  # noqa: SLF001

    def close(self) -> None:
        """Releases everything."""
        self._ledger._end(self)  # noqa: SLF001


def _work_in(charges: Mapping[Kind, int]) -> int:
    """Bytes of inputs and outputs."""
    return charges.get(Kind.INPUTS, 0) + charges.get(Kind.OUTPUTS, 0)


def _never(size: int, bound: int, setting: str) -> Refusal:
    detail = f"inputs and outputs of the call take {size} bytes; the server holds {bound} ({setting})"
    return Refusal("too_large", detail, "send fewer matrices per call")
