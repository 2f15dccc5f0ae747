"""Whether and when to try again: a pure function of the clock and a random number.

Every function of the service is pure, so every call may be sent again. It is worth it where the failure may pass:
the server was busy, draining, out of memory or failed, or no answer came at all. It is not where the answer would be
the same, where a timeout says that the server may still be at work, or where the wait would outlast the call's
deadline or the policy's budget.

The wait has full jitter, so that callers who failed together do not return together: uniform between nothing and a
bound that doubles with every attempt. What the server asks for is added to that, never cut.
"""

from __future__ import annotations

from dataclasses import dataclass

from matfn.errors import (
    MatfnError,
    ProblemError,
    ProtocolError,
    TransportError,
    TransportTimeout,
    is_retryable,
)

__all__ = ["RetryPolicy", "may_pass"]


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try again.

    Attributes:
        max_retries: attempts after the first.
        first_s: the bound of the first wait; it doubles with every attempt.
        cap_s: where the doubling ends.
        budget_s: no retry begins later than this after the call.
    """

    max_retries: int = 5
    first_s: float = 0.1
    cap_s: float = 8.0
    budget_s: float = 120.0

    def delay(self, attempt: int, error: MatfnError, elapsed: float, random: float) -> float | None:
        """Seconds to wait before the next attempt, or None to give up.

        Args:
            attempt: how many retries there have been.
            error: why the last attempt failed.
            elapsed: seconds since the call began.
            random: uniform in [0, 1).
        """
        if attempt >= self.max_retries or not may_pass(error):
            return None
        wait = _asked(error) + random * min(self.cap_s, self.first_s * 2**attempt)
        return wait if elapsed + wait < self.budget_s else None

    def within(self, deadline: float | None) -> RetryPolicy:
        """The policy of a call whose answer is worthless after `deadline` seconds."""
        if deadline is None or deadline >= self.budget_s:
            return self
        return RetryPolicy(self.max_retries, self.first_s, self.cap_s, deadline)


def may_pass(error: MatfnError) -> bool:
    """Whether the same call may succeed later."""
    if isinstance(error, ProblemError):
        return is_retryable(error.code)
    return isinstance(error, TransportError) and not isinstance(error, TransportTimeout | ProtocolError)


def _asked(error: MatfnError) -> float:
    """Seconds that the server asks to wait."""
    milliseconds = error.retry_after_ms if isinstance(error, ProblemError) else None
    return max(milliseconds or 0.0, 0.0) / 1000
