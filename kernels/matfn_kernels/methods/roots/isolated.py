"""Powers of numbers that are alone in their row and column, such as those of diagonal matrices, to an ulp.

Iterations, and scaling by powers of two, leave a few roundings in them. They are computed in extended precision, which
has 11 bits more than float64 on x86 and 60 on ARM.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn_kernels.numbers.precision import FLOOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.numbers.arrays import Array
    from matfn_kernels.programs.findings import Findings

__all__ = ["below_rounding", "exact_where_isolated", "isolated", "may_be_isolated", "of_each", "wide"]


_DROPPED: Final = 2.0**-20
"""Of its power, what is left of a number that "range" drops: products with other eigenvectors leave some eps of theirs.
The power of one that is kept, above 8 eps of the largest, is right to more than half of its size."""


def exact_where_isolated(power: Power, inputs: Mapping[str, Tensor], found: Findings) -> Findings:
    """The findings with the powers of isolated numbers, shifted as the whole matrices are, computed one by one.

    On a GPU the host would have to wait for the matrices: there nothing is replaced.

    Args:
        power: the question.
        inputs: a (batch, n, n) and, if the power has rows, g (batch, m, n).
        found: of the whole matrices.
    """
    a = inputs["a"]
    if not a.is_cpu or not bool(may_be_isolated(a).any()):
        return found
    lonely = isolated(a)
    rows = lonely.any(-1).nonzero().flatten()
    if not len(rows):
        return found
    numbers = a[rows].diagonal(dim1=-2, dim2=-1).real.double().numpy()
    shift = of_each(found.shift, rows)
    alone = lonely[rows].numpy() & (numbers >= 0) & ((shift == 0) | ~below_rounding(a[rows], numbers))
    shifted = numbers.astype(np.longdouble) + shift
    left = wide(inputs["g"][rows]) if "g" in inputs else None
    outputs = []
    for value, exponent, sign in zip(found.outputs, _exponents(found), power.signs, strict=True):
        powers = _powers(shifted, sign * power.s, power.r, of_each(exponent, rows))
        some = value[rows].resolve_conj().numpy()
        _place(some, alone, powers, left, _DROPPED if power.drops else 0.0)
        outputs.append(value.index_copy(0, rows, torch.from_numpy(some)))
    return replace(found, outputs=tuple(outputs))


def may_be_isolated(a: Tensor) -> Tensor:
    """Which matrices have a zero in their first row, (batch,): without one every other row meets it."""
    return (a[:, 0] == 0).any(-1) if a.shape[-1] > 1 else torch.ones(len(a), dtype=torch.bool)


def isolated(a: Tensor) -> Tensor:
    """Which rows and columns are zero but for the diagonal, (batch, n)."""
    beside = a != 0
    beside.diagonal(dim1=-2, dim2=-1).zero_()
    return ~(beside.any(-1) | beside.any(-2))


def below_rounding(a: Tensor, numbers: Array) -> Array:
    """Which numbers (k, n) count as 0 before a shift, as eigenvalues of that size do: their digits are rounding."""
    largest = a.abs().double().flatten(1).amax(1, keepdim=True).numpy()
    return np.asarray(numbers < FLOOR * np.finfo(np.float64).eps * largest)


def of_each(values: Tensor | None, rows: Tensor) -> Array:
    """Values of some matrices, (k, 1); zero for None."""
    return np.zeros((len(rows), 1)) if values is None else values[rows, None].numpy()


def _exponents(found: Findings) -> tuple[Tensor | None, ...]:
    return found.exponents or (None,) * len(found.outputs)


def wide(g: Tensor) -> Array:
    """G in double precision."""
    numbers = g.to(torch.complex128 if g.dtype.is_complex else torch.float64)
    return np.asarray(numbers.resolve_conj().numpy())


def _powers(numbers: Any, s: int, r: int, exponent: Array) -> Any:
    """X^(s/r) 2^-exponent elementwise, (k, n)."""
    with np.errstate(all="ignore"):  # a power that is not finite is not placed
        return np.ldexp(np.power(numbers, np.longdouble(s) / np.longdouble(r)), -exponent.astype(np.int32))


def _place(value: Array, alone: Array, powers: Any, left: Array | None, dropped: float) -> None:
    """Puts powers of isolated numbers (k, n) into powers (k, n, n), or into products with G from the left (k, m, n).

    One that the dtype does not hold in full is left as it is, as are those of answers that are not finite, or zero for
    numbers that count as zero: at most `dropped` of the power, which is what rounding leaves of a zero.
    """
    with np.errstate(all="ignore"):
        columns = np.asarray(powers if left is None else left * powers[:, None, :])
        # first to double precision: beside other matrices the value may be kept so, and is rounded once more later
        columns = columns.astype(np.complex128 if np.iscomplexobj(columns) else np.float64).astype(value.dtype)
    size = np.abs(powers).astype(value.real.dtype)
    kept = alone & np.isfinite(size) & (size >= np.finfo(value.dtype).tiny)
    if left is None:
        diagonal = np.einsum("kii->ki", value)
        kept &= np.isfinite(diagonal) & (np.abs(diagonal) > dropped * size)
        value[kept[:, :, None] | kept[:, None, :]] = 0
        diagonal[kept] = columns[kept]
    else:
        is_there = np.abs(value).max(1, initial=0) > dropped * np.abs(columns).max(1, initial=0)
        kept &= np.isfinite(columns).all(1) & np.isfinite(value).all(1) & is_there
        np.copyto(value, columns, where=kept[:, None, :])
