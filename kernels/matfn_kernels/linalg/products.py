"""The few products that every iteration is made of, each one fused GEMM into a kept buffer.

The program names the kernels (`kernel_choice.Kernel`): torch's, or those of `triton.products` and `triton.iteration`,
which are imported when a program first asks for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.linalg import invariant, onednn
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.numbers.blocks import blocks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from matfn_kernels.numbers.coefficients import Coefficient, Row

__all__ = [
    "add_diagonal",
    "conjugate",
    "coupled_at_once",
    "gram",
    "invert_leaf",
    "large_product",
    "plain_at_once",
    "product",
    "quadratic",
    "square",
    "symmetric_conjugate",
    "symmetric_product",
    "symmetrise",
]


_BLOCK: Final = 64
"""Order of the blocks of a symmetric product on a CPU."""


def add_diagonal(x: Tensor, value: Coefficient) -> Tensor:
    """Adds `value` to the diagonal of x (batch, n, n) in place."""
    diagonal = x.diagonal(dim1=-2, dim2=-1)
    diagonal.add_(value if isinstance(value, float) else value.squeeze(-1))
    return x


def product(x: Tensor, y: Tensor, out: Tensor | None = None) -> Tensor:
    """X Y (batch, m, n)."""
    return invariant.product(x, y, out)


def large_product(x: Tensor, y: Tensor) -> Tensor:
    """X Y (batch, m, n) by the faster library (`onednn`), for uses where the last bit of each term does not count."""
    return onednn.product(x, y) if onednn.serves(x, y) else invariant.product(x, y)


def square(x: Tensor, out: Tensor | None = None) -> Tensor:
    """X^2 of symmetric X (batch, n, n)."""
    return product(x, x, out)


def quadratic(p: Tensor, coefficients: Row, out: Tensor, kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """W = a I + b P + c P^2 for symmetric P (batch, n, n), one GEMM."""
    if kernel is Kernel.SYMMETRIC:
        from matfn_kernels.linalg.triton import products as triton_products

        return triton_products.quadratic(p, coefficients, out)
    a, b, c = coefficients
    if p.device.type != "cpu":
        _fused_quadratic(p, (b, c), out)
    elif isinstance(b, float) and isinstance(c, float):
        invariant.product(p, p, out.copy_(p), alpha=c, beta=b)
    else:
        square(p, out).mul_(c).add_(b * p)
    return add_diagonal(out, a)


def _fused_quadratic(p: Tensor, coefficients: tuple[Coefficient, Coefficient], out: Tensor) -> None:
    b, c = coefficients
    if isinstance(b, float) and isinstance(c, float):
        torch.baddbmm(p, p, p, beta=b, alpha=c, out=out)
    else:
        torch.baddbmm(b * p, c * p, p, out=out)


def symmetrise(x: Tensor) -> Tensor:
    """(X + X^H) / 2 of x (batch, n, n)."""
    return (x + x.mH).mul_(0.5)


def gram(x: Tensor, out: Tensor, kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """X^H X of X (batch, m, n)."""
    if kernel is Kernel.SYMMETRIC:
        from matfn_kernels.linalg.triton import products as triton_products

        return triton_products.gram(x, out)
    return invariant.product(x.mH, x, out)


def conjugate(h: Tensor, p: Tensor, space: tuple[Tensor, Tensor], kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """H P H (batch, n, n) of symmetric factors, symmetric but for rounding, in the first of two buffers or anew.

    Small products are not made symmetric: P^(-s/r) is as accurate without. Positive powers lose a factor of two
    without; they are made by `symmetric_conjugate`.
    """
    out, spare = space
    if kernel is Kernel.LIBRARY and p.shape[-1] <= _BLOCK:
        return product(product(h, p, spare), h, out)
    return symmetric_conjugate(h, p, space, kernel)


def symmetric_conjugate(h: Tensor, p: Tensor, space: tuple[Tensor, Tensor], kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """H P H (batch, n, n) of symmetric factors, exactly symmetric; the second buffer is written to."""
    return symmetric_product(product(h, p, space[1]), h, kernel)


def symmetric_product(x: Tensor, y: Tensor, kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """X Y (batch, n, n), known to be Hermitian."""
    if kernel is Kernel.SYMMETRIC:
        from matfn_kernels.linalg.triton import products as triton_products

        return triton_products.symmetric_product(x, y)
    if x.device.type == "cpu" and x.shape[-1] > _BLOCK:
        return _by_blocks(x, y)
    half = invariant.product(x, y, alpha=0.5)
    return half + half.mH


def _by_blocks(x: Tensor, y: Tensor) -> Tensor:
    """`symmetric_product` with the blocks above the diagonal copied from below: 1.6 times as fast in all."""
    parts = tuple(blocks(x.shape[-1], _BLOCK))
    out = torch.empty_like(x, memory_format=torch.contiguous_format)
    for part in parts:
        out[:, part, : part.stop] = invariant.product(x[:, part], y[:, :, : part.stop])
    for part in parts:
        out[:, part, part] = symmetrise(out[:, part, part])
        out[:, part, part.stop :] = out[:, part.stop :, part].mH
    return out


def coupled_at_once(g: Tensor | None, p: Tensor, rows: Sequence[Row], r: int, s: int) -> Tensor:
    """`iteration.coupled` in one launch."""
    from matfn_kernels.linalg.triton import iteration as triton_small

    return triton_small.coupled(g, p, rows, r, s)


def plain_at_once(x: Tensor, rows: Sequence[Row]) -> Tensor:
    """`iteration.plain` in one launch."""
    from matfn_kernels.linalg.triton import iteration as triton_small

    return triton_small.plain(x, rows)


def invert_leaf(t: Tensor, kernel: Kernel = Kernel.LIBRARY) -> Tensor:
    """Inverse of a small lower triangle T (batch, n, n) by substitution."""
    if kernel is Kernel.ONE_LAUNCH:
        from matfn_kernels.linalg.triton import iteration as triton_small

        return triton_small.invert_leaf(t)
    identity = torch.eye(t.shape[-1], dtype=t.dtype, device=t.device).expand_as(t)
    return invariant.solve_triangular(t, identity, upper=False)
