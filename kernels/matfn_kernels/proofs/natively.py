"""Operations on balls by the library in C: one pass over each matrix, norms and rounding included (native/balls.inc).

The bounds are those of `balls`, whose functions call these where the library is built. A matrix here is one in float64
without gaps, or the transpose of one.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final

import torch

from matfn_kernels.linalg.native.library import check, library
from matfn_kernels.linalg.native.structures import CALLS
from matfn_kernels.linalg.single_thread import in_parts

if TYPE_CHECKING:
    from torch import Tensor

    from matfn_kernels.proofs.balls import Ball

__all__ = ["factor", "inverse", "is_ready", "norms", "product", "total"]

_FACTS: Final = 4
"""Radius, Frobenius norm, 2-norm of absolute values, and norm of the second part."""
_ABSENT: Final = (0,) * 8
_PARALLEL: Final = 1 << 20
"""Multiplications that are worth a thread."""


def is_ready() -> bool:
    """Whether the library is built."""
    return library() is not None


@cache
def _entry(name: str) -> Any:
    import ctypes

    entry = getattr(library(), f"matfn_{name}")
    entry.argtypes = [ctypes.c_char_p, ctypes.c_int64, ctypes.c_int64]
    return entry


def _call(name: str, items: int, work: int, *arguments: float) -> None:
    """Calls an entry point for all matrices, each of so many multiplications.

    Raises:
        MemoryError: if the library has none for its buffers.
    """
    entry, plan = _entry(name), CALLS[name].pack(*arguments)

    def part(first: int, last: int) -> None:
        check(entry(plan, first, last), f"{name} of {work} multiplications")

    if items * work < 2 * _PARALLEL:
        part(0, items)
    else:
        in_parts(part, items, -(-_PARALLEL // work))


def _stored(x: Tensor) -> tuple[Tensor, int]:
    """X (batch, m, n) without gaps, or its transpose so, and which of them."""
    if x.is_contiguous():
        return x, 0
    return (x, 1) if x.mT.is_contiguous() else (x.contiguous(), 0)


def _alike(x: Tensor, turned: int) -> Tensor:
    """X stored as another is."""
    return x.mT.contiguous().mT if turned else x.contiguous()


def _second(x: Tensor | None, turned: int) -> Tensor | None:
    """The second part of a ball, None for zeros that take no memory."""
    return None if x is None or x.stride() == (0, 0, 0) else _alike(x, turned)


def _address(x: Tensor | None) -> int:
    return 0 if x is None else x.data_ptr()


def _operand(x: Ball) -> tuple[tuple[Tensor | None, ...], tuple[int, ...]]:
    """What has to stay in memory, and a ball as native.h has it."""
    high, turned = _stored(x.high)
    low = _second(x.low, turned)
    kept = (high, low, x.radius, x.frobenius, x.spectral, x.rest)
    return kept, (*map(_address, kept), turned, int(x.part))


def _made(items: int, m: int, n: int, *, doubled: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Memory for the parts of a ball and for its facts (4, items)."""
    high = torch.empty(items, m, n, dtype=torch.float64)
    return high, torch.empty_like(high) if doubled else None, torch.empty(_FACTS, items, dtype=torch.float64)


def product(x: Ball, y: Ball, *, symmetric: bool) -> tuple[Tensor, Tensor | None, Tensor]:
    """Parts and facts of X Y; its lower half is computed and mirrored if the exact product is known to be symmetric."""
    (items, m, k), n = x.high.shape, y.high.shape[-1]
    kept, left = _operand(x)
    too, right = _operand(y)
    made = _made(items, m, n, doubled=x.low is not None or y.low is not None)
    _call("ball_products", items, m * k * n, items, m, k, n, symmetric, *left, *right, *map(_address, made))
    del kept, too
    return made


def total(x: Ball, y: Ball | None, *, sign: float, factor: float) -> tuple[Tensor, Tensor | None, Tensor]:
    """Parts and facts of (X + sign Y) factor, with I for Y if it is None; the factor is a power of two."""
    items, m, n = x.high.shape
    kept, left = _operand(x)
    if left[-2]:
        x = type(x)(x.high.contiguous(), None if x.low is None else x.low.contiguous(), x.radius, x.norms, x.part)
        kept, left = _operand(x)
    too, right = ((), _ABSENT) if y is None else _operand(y)
    doubled = x.low is not None or (y is not None and y.low is not None)
    made = _made(items, m, n, doubled=doubled)
    _call("ball_sums", items, 8 * m * n, items, m, n, sign, factor, *left, *right, *map(_address, made))
    del kept, too
    return made


def norms(x: Ball) -> tuple[Tensor, ...]:
    """Upper bounds of the Frobenius norm, of the 2-norm of absolute values, and of the second part's length."""
    high, turned = _stored(x.high)
    low = _second(x.low, turned)
    items, m, n = (high.mT if turned else high).shape
    facts = torch.empty(_FACTS, items, dtype=torch.float64)
    _call("ball_norms", items, 4 * m * n, items, m, n, *map(_address, (high, low, x.radius, facts)))
    return facts.unbind()[1:]


def factor(x: Tensor) -> tuple[Tensor, Tensor]:
    """Lower triangular L near L L^T = (X + X^T) / 2, not trusted, and whether there is one."""
    items, n, _ = x.shape
    x, out, exists = x.contiguous(), torch.empty(items, n, n, dtype=torch.float64), torch.empty(items, dtype=torch.bool)
    _call("ball_factors", items, n**3 // 6, n, *map(_address, (x, out, exists)))
    return out.mT, exists


def inverse(t: Tensor, *, upper: bool) -> Tensor:
    """T^-1 of a triangle without numbers in its other half, not trusted."""
    stored, turned = _stored(t)
    out, n = torch.empty(t.shape, dtype=torch.float64), t.shape[-1]
    lies_upper = upper != bool(turned)
    _call("ball_inverses", len(t), n**3 // 6, n, lies_upper, *map(_address, (stored, out)))
    return out.mT if upper else out
