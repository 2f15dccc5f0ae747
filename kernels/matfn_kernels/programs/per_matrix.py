"""Methods that LAPACK offers for one matrix at a time, independent of the other matrices in the batch.

Neither Schur forms nor the substitutions behind them have a batched kernel. A method is a function of the matrices of
one item, in float64; this module calls it item by item and gathers the results. Each matrix is copied: matrices of odd
order have other alignments in a batch, by which OpenBLAS's oldest kernels choose.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import torch

from matfn_kernels.programs.findings import Findings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    from matfn_kernels.numbers.arrays import Array

__all__ = ["Found", "each", "failed"]


@dataclass(frozen=True, slots=True)
class Found:
    """One item's answer.

    Attributes:
        value: the answer, float64 or complex128; NaN where there is none.
        residual: relative residual.
        error: estimated relative error; NaN where none can be given.
        condition: estimated condition number.
        steps: iterations.
        rank: numerical rank, NaN where it is not defined.
        failure: code of the problem, if there is no answer.
        remarks: further reasons why the answer is approximate.
        beside: the further outputs.
        exponent: of the power of two that the value lacks.
    """

    value: Array
    residual: float = math.nan
    error: float = math.nan
    condition: float = math.nan
    steps: int = 0
    rank: float = math.nan
    failure: str | None = None
    remarks: tuple[str, ...] = ()
    beside: tuple[Array, ...] = ()
    exponent: int = 0


_NUMBERS: Final = ("residual", "error", "condition", "steps", "rank")


def failed(shape: tuple[int, ...], code: str | None) -> Found:
    """An item without an answer; the code is None where the method itself broke down."""
    return Found(np.full(shape, math.nan), failure=code)


def each(
    method: Callable[..., Found],
    inputs: Mapping[str, Tensor],
    shape: tuple[int, ...],
    residual_name: str,
    beside: tuple[tuple[int, ...], ...] = (),
) -> Findings:
    """Calls the method with every item's matrices, by name and in double precision, as the outputs are.

    Args:
        method: of one item; where LAPACK fails there is no answer.
        inputs: (batch, ...).
        shape: of an item's answer.
        residual_name: the equation whose residual the method measures.
        beside: shapes of the further outputs of an item.
    """
    arrays = {name: _double(tensor) for name, tensor in inputs.items()}
    first, dtype = next(iter(inputs.values())), np.result_type(*arrays.values())
    found = [
        _alone(method, {name: array[i].copy() for name, array in arrays.items()}, shape) for i in range(len(first))
    ]

    def column(entries: list[float] | list[bool]) -> Tensor:
        return torch.tensor(entries, dtype=None if isinstance(entries[0], bool) else torch.float64, device=first.device)

    def stacked(outputs: list[Array]) -> Tensor:
        return torch.as_tensor(np.stack(outputs).astype(dtype), device=first.device)

    exponent = torch.tensor([f.exponent for f in found], dtype=torch.int64, device=first.device)
    further = [[*f.beside] or [np.full(one, math.nan) for one in beside] for f in found]
    columns = {name: column([float(getattr(f, name)) for f in found]) for name in _NUMBERS}
    return Findings(
        outputs=(stacked([f.value for f in found]), *(stacked(list(one)) for one in zip(*further, strict=True))),
        residual_name=residual_name,
        residual=columns["residual"],
        error=columns["error"],
        condition=columns["condition"],
        steps=columns["steps"],
        rank=columns["rank"],
        exponents=(exponent, *(None for _ in beside)) if any(f.exponent for f in found) else (),
        failures={code: column([f.failure == code for f in found]) for code in _codes(found)},
        remarks={name: column([name in f.remarks for f in found]) for name in _reasons(found)},
    )


def _double(tensor: Tensor) -> Array:
    """A tensor as float64, or complex128 if it is complex."""
    double = torch.complex128 if tensor.dtype.is_complex else torch.float64
    array: Array = tensor.to("cpu", double).resolve_conj().numpy()
    return array


def _codes(found: list[Found]) -> list[str]:
    return sorted({f.failure for f in found if f.failure is not None})


def _reasons(found: list[Found]) -> list[str]:
    return sorted({reason for f in found for reason in f.remarks})


def _alone(method: Callable[..., Found], arrays: dict[str, Array], shape: tuple[int, ...]) -> Found:
    try:
        with np.errstate(all="ignore"):
            return method(**arrays)
    except (np.linalg.LinAlgError, ValueError):  # LAPACK gave up, or was about to be given NaN
        return failed(shape, None)
