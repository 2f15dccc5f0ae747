"""One iteration for inverse roots, square roots, inverses, signs and polar factors.

State G (batch, m, n) and P (batch, n, n), integers r and s. Each step forms W = a I + b P + c P^2 and sets

    G <- G W^s,        P <- W^r P,

whose limit is G P^(-s/r): the product of the W tends to P^(-1/r) as P tends to I (kexue.fm/archives/11175; the coupled
Newton iteration of Guo and Higham, 2006, with a better multiplier). The polar factor uses the same W with P recomputed
from G after every step, which keeps the conditioning of G instead of its square.

Rules:
* coefficients may differ from element to element; the row (1, 0, 0) leaves an element exactly as it is;
* a schedule is run once and never prolonged: each extra step multiplies a rounding-negative eigenvalue by a^r;
* nothing is polished from a residual: that amplifies the part that does not commute.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import (
    conjugate,
    coupled_at_once,
    gram,
    plain_at_once,
    product,
    quadratic,
    square,
    symmetric_conjugate,
    symmetric_product,
)
from matfn_kernels.numbers.blocks import blocks

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor

    from matfn_kernels.numbers.coefficients import Row

    Conjugation = Callable[[Tensor, Tensor, tuple[Tensor, Tensor], Kernel], Tensor]

__all__ = ["ENGINE_REACH", "Workspace", "coupled", "per_element", "plain", "tiles"]

ENGINE_REACH: Final = 5e-6
"""Tightest tolerance at which the fp32 iteration is worth trying: below, its rounding alone misses it."""

_TILE_BYTES: Final = 1 << 20
"""Half of an L2 cache of 2 MiB.

An inverse fourth root of order 64 takes 0.16 ms of an Intel Xeon's core, 0.23 in tiles of a quarter, 0.19 without."""
_BUFFERS: Final = 5
"""Matrices in use at a time: the four buffers of a workspace, and G."""


@dataclass(slots=True)
class Workspace:
    """Buffers of one shape that a tile's whole iteration reuses."""

    w: Tensor
    h: Tensor
    p: Tensor
    spare: Tensor

    @classmethod
    def like(cls, p: Tensor) -> Workspace:
        """Buffers of the shape and dtype of p."""
        return cls(*(torch.empty_like(p) for _ in range(4)))


def tiles(x: Tensor, order: int) -> Iterator[slice]:
    """Slices of a batch small enough that a tile's iteration stays in a core's L2 cache; on a GPU all at once."""
    items = len(x)
    fitting = _TILE_BYTES // (_BUFFERS * max(1, order * order * x.itemsize)) if x.device.type == "cpu" else items
    return blocks(items, max(1, fitting))


def per_element(schedules: Sequence[Sequence[tuple[float, float, float]]], like: Tensor) -> list[Row]:
    """One row of (batch, 1, 1) coefficients a step; elements with shorter schedules are frozen by (1, 0, 0)."""
    longest = max(len(schedule) for schedule in schedules)
    padded = [[*schedule, *[(1.0, 0.0, 0.0)] * (longest - len(schedule))] for schedule in schedules]
    table = torch.tensor(padded, dtype=torch.float64).to(like.device, like.dtype)
    return [tuple(table[:, step, k, None, None] for k in range(3)) for step in range(longest)]  # type: ignore[misc]


def coupled(
    g: Tensor | None, p: Tensor, rows: Sequence[Row], r: int, s: int, kernel: Kernel = Kernel.LIBRARY
) -> Tensor:
    """G P^(-s/r) for symmetric P (batch, n, n) with eigenvalues in [0, 1].

    Args:
        g: (batch, m, n), or None for the identity.
        p: (batch, n, n); not written to.
        rows: the steps' coefficients.
        r: the root.
        s: the power.
        kernel: whose products are used.
    """
    if kernel is Kernel.ONE_LAUNCH:
        return coupled_at_once(g, p, rows, r, s)
    space = Workspace.like(p)
    conjugated = conjugate if g is None else symmetric_conjugate
    for step, row in enumerate(rows):
        quadratic(p, row, space.w, kernel)
        power = _power(space.w, s, space)
        g = power.clone() if g is None else product(g, power)
        if step + 1 < len(rows):
            p = _contract(space, p, r, kernel, conjugated)
    assert g is not None
    return g


def _contract(space: Workspace, p: Tensor, r: int, kernel: Kernel, conjugated: Conjugation) -> Tensor:
    """W^r P, symmetric by form: H P H with H = W^(r/2), or H (P W) H with H = W^((r-1)/2)."""
    if r == 1:
        return symmetric_product(p, space.w, kernel)
    middle = p if r % 2 == 0 else product(p, space.w)
    return conjugated(_power(space.w, r // 2, space), middle, (space.p, space.spare), kernel)


def _power(w: Tensor, exponent: int, space: Workspace) -> Tensor:
    """W^exponent by binary powering; the result may be W itself or a buffer of the workspace."""
    result: Tensor | None = None
    factor = w
    while True:
        if exponent & 1:
            result = factor if result is None else product(result, factor)
        exponent >>= 1
        if not exponent:
            break
        factor = square(factor, space.h if factor is w else None)
    assert result is not None
    return result


def plain(x: Tensor, rows: Sequence[Row], kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """Polar factor of X (batch, m, n), m >= n, singular values in [0, 1]: X <- X (a I + b G + c G^2), G = X^H X."""
    if kernel is Kernel.ONE_LAUNCH:
        return plain_at_once(x, rows)
    x = x.clone()
    spare = torch.empty_like(x)
    p = x.new_empty(x.shape[0], x.shape[2], x.shape[2])
    w = torch.empty_like(p)
    for row in rows:
        quadratic(gram(x, p, kernel), row, w, kernel)
        product(x, w, spare)
        x, spare = spare, x
    return x
