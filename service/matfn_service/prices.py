"""Seconds that jobs take, by what earlier batches of their keys took: no event loop, no clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_service.corrections import Corrections

if TYPE_CHECKING:
    from matfn_service.jobs import Job

__all__ = ["UNMEASURED", "Prices"]

UNMEASURED: Final = 64.0
"""Times its price: what a batch of a key that was never measured may take."""


class Prices:
    """Present prices of jobs.

    Args:
        longest: most predicted seconds of a batch.
    """

    def __init__(self, longest: float) -> None:
        self.corrections = Corrections()
        self._longest = longest

    def predicted(self, job: Job) -> float:
        """Seconds that a job may take."""
        return job.priced * self.corrections.factor(job.key)

    def at_worst(self, job: Job) -> float:
        """Seconds that a job takes if it is as bad as the worst of its key lately."""
        return job.priced * self.corrections.highest(job.key)

    def is_new(self, job: Job) -> bool:
        """Whether nothing is known yet of what batches of its key take."""
        return not self.corrections.is_measured(job.key)

    def lasting(self, job: Job) -> float:
        """Seconds for which a worker may be held by a batch that begins with this job."""
        seconds = self.predicted(job)
        longest = min(seconds, max(self._longest, seconds / max(1, job.batch.items)))
        return longest * (UNMEASURED if self.is_new(job) else 1.0)
