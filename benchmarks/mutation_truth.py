"""Whether the certificates of an answer to a damaged request keep what they claim: outputs against float64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

from matfn.wire import decode_answer, decode_call
from matfn_kernels import FUNCTIONS, Limits, parse_call, reference
from matfn_service.tensors import from_wire

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from matfn.wire import Answer, Certificate
    from mutants import Mutant
    from mutation_verdicts import Answered

__all__ = ["broken_claims"]

_EPS: Final = float(np.finfo(np.float64).eps)
_NAIVE: Final = 200
"""Error of a naive computation in float64, in units of eps and the condition."""
_UNBALANCED: Final = frozenset(
    {"mcsgn", "spectral_projector", *(name for name in FUNCTIONS if name.startswith("solve_"))}
)
"""Functions whose naive computation does not balance the matrices as the service does."""
_EVEN: Final = 2.0**20
"""The ratio of entries up to which that makes no difference."""


def broken_claims(mutant: Mutant, answered: Answered) -> list[str]:
    """The matrices whose error is above the estimate or the bound in their certificates.

    Only those are judged of which float64 tells the error: the condition leaves some digits, and the value is finite.
    """
    if mutant.function not in FUNCTIONS or answered.media is None:
        return []
    answer = decode_answer(answered.body, answered.media)
    sent = decode_call(mutant.body, mutant.media, mutant.function)
    with np.errstate(all="ignore"):
        try:
            errors = _errors(mutant.function, {name: from_wire(one) for name, one in sent.inputs.items()}, sent, answer)
        except (np.linalg.LinAlgError, ValueError, ZeroDivisionError):
            return []  # float64 has no value where the service found one by other means
    return [
        f"matrix {index} of {mutant.function}: error {error:.2g}, certificate {certificate}"
        for index, (error, certificate) in enumerate(zip(errors, answer.certificates, strict=True))
        if _is_broken(error, certificate)
    ]


def _errors(function: str, inputs: Mapping[str, torch.Tensor], sent: Any, answer: Answer) -> NDArray[np.float64]:
    call = parse_call(function, inputs, sent.params, sent.options, Limits())
    if not all(tensor.numel() for tensor in call.inputs.values()):
        return np.zeros(call.items)
    arrays = {name: _array(one) for name, one in call.inputs.items()}
    is_naive = function in _UNBALANCED or call.parameters.get("structure") == "general"
    if is_naive and not all(map(_is_even, arrays.values())):
        return np.full(call.items, np.nan)
    shifts = np.array([certificate.shift for certificate in answer.certificates])
    truths = reference.value(function, arrays, call.parameters, shifts if "damping" in call.parameters else None)
    outputs = [_array(from_wire(output)) for output in answer.outputs.values()]
    if function == "frechet_distance":
        return np.asarray(abs(outputs[0].ravel() - truths[0]) / _terms(arrays))
    worst: NDArray[np.float64] = np.max([_error(*pair) for pair in zip(outputs, truths, strict=True)], axis=0)
    return worst


def _is_even(array: NDArray[Any]) -> bool:
    sizes = abs(array[array != 0])
    return not sizes.size or bool(sizes.max() <= _EVEN * sizes.min())


def _error(x: NDArray[Any], truth: NDArray[Any]) -> NDArray[np.float64]:
    """Relative error of each matrix; NaN where the truth is not finite."""
    rows = truth.reshape(len(truth), 1, -1)
    found = reference.relative_error(x.reshape(rows.shape), rows)
    return np.where(np.isfinite(rows).all(axis=(1, 2)), found, np.nan)


def _terms(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    """The size that errors of a distance are relative to."""
    wide = {name: array.astype(np.float64) for name, array in arrays.items()}
    traces = np.trace(wide["s1"] + wide["s2"], axis1=-2, axis2=-1)
    return np.asarray(((wide["mu1"] - wide["mu2"]) ** 2).sum(-1) + traces)


def _array(tensor: torch.Tensor) -> NDArray[Any]:
    """The numbers as numpy has them; half precision in float32, whose rules it has."""
    is_half = tensor.dtype in {torch.float16, torch.bfloat16}
    array: NDArray[Any] = (tensor.float() if is_half else tensor).numpy()
    return array


def _is_broken(error: float, certificate: Certificate) -> bool:
    claims = [claim for claim in (certificate.error_estimate, certificate.error_bound) if claim is not None]
    slack = _NAIVE * _EPS * (certificate.condition or 1)
    return certificate.code is None and bool(claims) and slack < min(claims) and error > min(claims) + slack
