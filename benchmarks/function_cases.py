"""Work for the function benchmark: matrices made by their spectrum, and the exact answers for them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Array", "Case", "distance", "inputs", "truth"]

Array: TypeAlias = "NDArray[Any]"
Task: TypeAlias = Literal["inv_root", "msign", "mclip", "tri_inv", "dplr_solve"]


@dataclass(frozen=True, slots=True)
class Case:
    """A batch of equal work.

    Attributes:
        task: the function.
        rows: m, or n of a square matrix.
        columns: n; for dplr_solve the rank d, which is also the number of right-hand sides.
        batch: number of matrices.
        condition: ratio of the largest to the smallest eigenvalue or singular value.
        r: the root.
    """

    task: Task
    rows: int
    columns: int
    batch: int
    condition: float = 1e4
    r: int = 4

    @property
    def name(self) -> str:
        """The case in a table."""
        root = f" r = {self.r}" if self.task == "inv_root" else ""
        return f"{self.task}{root}, {self.rows} x {self.columns}, batch {self.batch}, cond {self.condition:.0e}"


def inputs(case: Case) -> tuple[Array, ...]:
    """The arguments of a case in float32, each (batch, ...); the same every time."""
    rng = np.random.default_rng(case.rows + case.columns)
    match case.task:
        case "inv_root":
            q = _orthogonal(rng, case.batch, case.rows, case.rows)
            a = (q * _spectrum(case)) @ q.swapaxes(-1, -2)
            return (((a + a.swapaxes(-1, -2)) / 2).astype(np.float32),)
        case "msign" | "mclip":
            u = _orthogonal(rng, case.batch, case.rows, case.columns)
            v = _orthogonal(rng, case.batch, case.columns, case.columns)
            return (((u * _spectrum(case)) @ v.swapaxes(-1, -2)).astype(np.float32),)
        case "tri_inv":
            t = np.tril(rng.standard_normal((case.batch, case.rows, case.rows)), -1) / np.sqrt(case.rows)
            return ((t + np.eye(case.rows)).astype(np.float32),)
        case "dplr_solve":
            shape = (case.batch, case.rows, case.columns)
            q, k, b = (rng.standard_normal(shape).astype(np.float32) / np.sqrt(case.rows) for _ in range(3))
            return np.ones(shape[:2], np.float32), q.astype(np.float32), k.astype(np.float32), b.astype(np.float32)


def truth(case: Case, given: tuple[Array, ...]) -> Array:
    """The exact answers in float64."""
    wide = tuple(x.astype(np.float64) for x in given)
    match case.task:
        case "inv_root":
            w, v = np.linalg.eigh(wide[0])
            return np.asarray((v * w[:, None, :] ** (-1 / case.r)) @ v.swapaxes(-1, -2))
        case "msign" | "mclip":
            u, s, vh = np.linalg.svd(wide[0], full_matrices=False)
            return np.asarray((u * (np.ones_like(s) if case.task == "msign" else np.minimum(s, 0.5))[:, None, :]) @ vh)
        case "tri_inv":
            return np.linalg.inv(wide[0])
        case "dplr_solve":
            diag, q, k, b = wide
            t = np.tril(q @ k.swapaxes(-1, -2), -1) + diag[:, :, None] * np.eye(case.rows)
            return np.linalg.solve(t, b)


def distance(found: Array, exact: Array) -> float:
    """Largest relative error of a batch, in the Frobenius norm."""
    difference = np.linalg.norm(found.astype(np.float64) - exact, axis=(-2, -1))
    return float((difference / np.linalg.norm(exact, axis=(-2, -1))).max())


def _orthogonal(rng: np.random.Generator, batch: int, rows: int, columns: int) -> Array:
    return np.linalg.qr(rng.standard_normal((batch, rows, columns)))[0]


def _spectrum(case: Case) -> Array:
    return np.logspace(0, -np.log10(case.condition), case.columns)
