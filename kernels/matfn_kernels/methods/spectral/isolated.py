"""Functions of numbers that are alone in their row and column, such as those of diagonal matrices, to an ulp.

As `roots.isolated` does for powers: their function is taken in extended precision, and what is off the diagonal is 0.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn_kernels.methods.roots.isolated import below_rounding, isolated, may_be_isolated, of_each, wide
from matfn_kernels.numbers.precision import FLOOR

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.methods.roots.by_eigh import Diagonalised
    from matfn_kernels.methods.spectral.question import Question
    from matfn_kernels.numbers.arrays import Array
    from matfn_kernels.programs.findings import Findings

__all__ = ["exact_where_isolated"]

_ROUNDINGS: Final = 2.0
"""Error of a number, and of its product with one of G, in units of eps: half of one each, and twice that to be sure of
an extended precision that is no more than double."""


def exact_where_isolated(matrices: Diagonalised[Question], inputs: Mapping[str, Tensor], found: Findings) -> Findings:
    """The findings with the function of isolated numbers, shifted as the whole matrices are, computed one by one.

    On a GPU the host would have to wait for the matrices: there nothing is replaced.

    Args:
        matrices: the question, the decomposition and the rules.
        inputs: a (batch, n, n) and, if the function has rows, g (batch, m, n).
        found: of the whole matrices.
    """
    a = inputs["a"]
    if not a.is_cpu or not bool(may_be_isolated(a).any()):
        return found
    alone = isolated(a)
    rows = alone.any(-1).nonzero().flatten()
    if not len(rows):
        return found
    numbers = a[rows].diagonal(dim1=-2, dim2=-1).real.double().numpy()
    shift = of_each(found.shift, rows)
    known = alone[rows].numpy() & _admitted(matrices.power, a[rows], numbers, shift)
    images = _images(matrices, rows, numbers.astype(np.longdouble) + shift)
    (value,), (exponent,) = found.outputs, found.exponents
    some = value[rows].resolve_conj().numpy()
    left = wide(inputs["g"][rows]) if "g" in inputs else None
    whole = _place(some, known, images, of_each(exponent, rows), left).all(-1)
    exact = torch.zeros_like(found.error, dtype=torch.bool).index_copy(0, rows, torch.from_numpy(whole))
    rounding = _ROUNDINGS * torch.finfo(value.dtype).eps
    error = torch.where(exact & ~matrices.rules.ambiguous, found.error.clamp_max(rounding), found.error)
    return replace(found, outputs=(value.index_copy(0, rows, torch.from_numpy(some)),), error=error)


def _admitted(question: Question, a: Tensor, numbers: Array, shift: Array) -> Array:
    """Which numbers (k, n) count as themselves under the rules of the function."""
    known = (shift == 0) | ~below_rounding(a, numbers)
    if question.function.is_definite:
        known &= (numbers >= 0) & ((numbers + shift > 0) | (question.function.sign > 0))
    elif question.shift is not None:
        known &= numbers >= 0
    return np.asarray(known)


def _images(matrices: Diagonalised[Question], rows: Tensor, numbers: Any) -> Any:
    """F of numbers (k, n), 0 for those that "range" drops."""
    question, eigen = matrices.power, matrices.eigen
    with np.errstate(all="ignore"):  # what is not finite is not placed
        images = question.function.of_numbers(numbers)
        if not question.drops:
            return images
        top = matrices.rules.spectrum.abs().amax(-1)[rows].numpy().astype(np.longdouble)
        cut = np.ldexp(FLOOR * matrices.eps * top, eigen.exponent[rows].numpy().astype(np.int32))
        return np.where(np.abs(numbers) > cut[:, None], images, 0)


def _place(value: Array, known: Array, images: Any, exponent: Array, left: Array | None) -> Array:
    """Puts images of isolated numbers (k, n) into values (k, n, n), or into products with G from the left (k, m, n).

    Returns:
        Which were put, (k, n).
    """
    with np.errstate(all="ignore"):
        scaled = np.ldexp(images, -exponent.astype(np.int32))
        columns = np.asarray(scaled if left is None else left * scaled[:, None, :])
        # first to double precision: beside other matrices the value may be kept so, and is rounded once more later
        columns = columns.astype(np.complex128 if np.iscomplexobj(columns) else np.float64).astype(value.dtype)
        kept: Array = known & np.isfinite(scaled.astype(value.real.dtype)) & np.isfinite(value).all(1)
    if left is None:
        value[kept[:, :, None] | kept[:, None, :]] = 0
        np.einsum("kii->ki", value)[kept] = columns[kept]
        return kept
    kept &= np.isfinite(columns).all(1)
    np.copyto(value, columns, where=kept[:, None, :])
    return kept
