"""Sylvester's and Lyapunov's equations in C, through real Schur forms by LAPACK (sylvester.inc, lapack.c)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import probes
from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.library import in_parts
from matfn_kernels.linalg.native.structures import SylvesterFindings, SylvesterPlan
from matfn_kernels.linalg.single_thread import threads
from matfn_kernels.numbers.arrays import gaussian

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.numbers.arrays import Array

__all__ = ["Rules", "real_schur_forms", "solutions"]

_SCHUR: Final = 25
"""Multiplications of a Schur form of order n in units of n^3."""
_REST: Final = 30
"""Those of an equation beside, of products and substitutions."""
_PARALLEL: Final = 1 << 20
"""Multiplications that are worth a thread, as in `lapack`."""


_TOGETHER: Final = 8
"""Equations a thread that are solved together at least."""
_NEAR: Final = 1 << 16
"""Numbers of A and Q that are solved together at least: their Schur forms stay in a core's cache, in kept memory."""


@dataclass(frozen=True, slots=True)
class Rules:
    """Numbers by which equations are refined and judged.

    Attributes:
        stored: a residual in units of eps and of the terms' norms below which no solution is refined.
        enough: that of a solution that has been refined.
        suspicious: (||A|| + ||B||) eps / sep from which on another method has to look at an equation.
        margin: of the estimate over the residual's part.
        rounding: of the estimate over rounding.
        extended: rounding of a residual, relative to the sum of its terms.
        cancelling: that relative to the sizes of the terms, where they cancel.
        crude: an estimate by norms that is larger is measured instead.
        hopeless: condition times eps from which on no digit is promised.
    """

    stored: float
    enough: float
    suspicious: float
    margin: float
    rounding: float
    extended: float
    cancelling: float
    crude: float
    hopeless: float


def real_schur_forms(a: Tensor, *, turned: bool) -> tuple[Tensor, Tensor]:
    """T^T and U^T of the real Schur forms U T U^T of A (batch, n, n), float64 without gaps, or of A^T; or NaN.

    Raises:
        MemoryError: if there is none for two matrices.
    """
    t, u, order = torch.empty_like(a), torch.empty_like(a), a.shape[-1]
    pointers = (x.data_ptr() for x in (a, t, u))
    lapack.call("real_schur", a.dtype, order, len(a), _SCHUR * order**3, (order, turned, *pointers))
    return t, u


def solutions(a: Tensor, b: Tensor | None, q: Tensor, rules: Rules) -> tuple[Tensor, SylvesterFindings]:
    """X of A X + X B = Q, or of A X + X A^T = Q without B, NaN where another method has to look at an equation.

    Args:
        a: (batch, m, m), float64 with entries near 1, or less than those of B.
        b: (batch, n, n) likewise.
        q: (batch, m, n) likewise.
        rules: numbers by which solutions are refined and judged.

    Raises:
        MemoryError: if there is none for some matrices.
    """
    a, q, b = a.contiguous(), q.contiguous(), None if b is None else b.contiguous()
    x, found = torch.empty_like(q), torch.empty(len(q), len(fields(SylvesterFindings)), dtype=torch.float64)
    step = max(_TOGETHER * threads(), _NEAR // (a[0].numel() + q[0].numel()))
    for start in range(0, len(q), step):
        part = slice(start, start + step)
        _solve(a[part], None if b is None else b[part], q[part], rules, (x[part], found[part]))
    return x, SylvesterFindings(*found.unbind(-1))


def _solve(a: Tensor, b: Tensor | None, q: Tensor, rules: Rules, results: tuple[Tensor, Tensor]) -> None:
    """Writes the solutions and findings of equations whose Schur forms stay in a core's cache."""
    items, rows, columns = q.shape
    t, u = real_schur_forms(a, turned=False)
    s, w = (None, None) if b is None else real_schur_forms(b, turned=True)
    given = (None if one is None else one.data_ptr() for one in (a, b, q, t, u, s, w))
    random, zs = _random(columns, rows), [probes.columns(order) for order in (rows, columns)]
    numbers = (getattr(rules, field.name) for field in fields(Rules))
    rest = (random.ctypes.data, *(z.data_ptr() for z in zs), *(one.data_ptr() for one in results))
    least = max(1, _PARALLEL // (_REST * rows * columns * max(rows, columns)))
    plan = SylvesterPlan(rows, columns, *numbers, *given, *rest)
    in_parts("matfn_sylvester", plan, items, least, f"equations of orders {rows} and {columns}")


@lru_cache(maxsize=64)
def _random(rows: int, columns: int) -> Array:
    """A Gaussian matrix without gaps."""
    return gaussian((rows, columns))
