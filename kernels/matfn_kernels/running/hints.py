"""Codes and hints of the reasons that methods report for an answer that is approximate or absent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import torch

from matfn_kernels.numbers.precision import Precision

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["OVER_RANGE", "PINNED", "REMARKS", "detail_of", "lost", "refusal"]

OVER_RANGE: Final = "over_range"
"""The reason where a finite answer is too large for its dtype."""

_WIDEST: Final = 64
"""Bits of a number of the widest dtype."""

_FAILURES: Final[Mapping[str, tuple[str, str]]] = {
    "not_positive": (
        "not_positive",
        "an eigenvalue is negative beyond rounding: clip it with eig_clip, or damp by more than its size",
    ),
    "on_negative_axis": (
        "not_positive",
        (
            "an eigenvalue is real and negative, or 0: there is no principal root or logarithm; damping moves the "
            "spectrum to the right; is the matrix symmetric? "
            'structure="symmetric" counts what rounding left below 0 as 0'
        ),
    ),
    "a_not_definite": ("not_positive", "a has an eigenvalue that is 0 or negative: the mean needs positive definite"),
    "b_not_definite": ("not_positive", "b has an eigenvalue that is 0 or negative: the mean needs positive definite"),
    "s1_negative": ("not_positive", "s1 has an eigenvalue that is negative beyond rounding: eig_clip(s1, lo=0)"),
    "s2_negative": ("not_positive", "s2 has an eigenvalue that is negative beyond rounding: eig_clip(s2, lo=0)"),
    "zero_matrix": (
        "singular",
        "the matrix is zero: damping, a part of its largest eigenvalue, adds nothing; give a shift",
    ),
    "defective_zero": (
        "not_positive",
        "the eigenvalue 0 has fewer eigenvectors than its multiplicity: there is no principal root; give damping > 0",
    ),
    "singular": ("singular", 'an eigenvalue is 0: give damping > 0, or damping="range" to leave the null space out'),
    "not_differentiable": (
        "singular",
        'an eigenvalue is 0, where the power has no derivative: give damping > 0, or damping="range"',
    ),
    "over_range": ("out_of_range", "the answer is too large for {dtype}: scale the input{wider}"),
    "far_shift": ("invalid_parameter", "shift is too large beside the matrix for float64: it leaves nothing of it"),
    "exactly_singular": ("singular", "an eigenvalue is 0, which has no inverse and no logarithm: give damping > 0"),
    "shared_eigenvalue": (
        "singular",
        "an eigenvalue of A and one of -B coincide, in a Lyapunov equation B = A^H: shift A or B",
    ),
    "reciprocal_eigenvalues": ("singular", "a product l conj(m) of two eigenvalues of A is 1: scale A"),
    "singular_descriptor": ("singular", "E has no inverse: only equations with a nonsingular E are solved"),
    "singular_weight": ("singular", "R has no inverse: a cost of zero on some input has no finite feedback"),
    "sign_undefined": (
        "sign_undefined",
        "to the rounding of float64 an eigenvalue lies on the imaginary axis: shift the matrix by a multiple of I",
    ),
    "no_condition": ("singular", "the matrix is zero: the quotient of its singular values is not defined"),
    "not_orthonormal": (
        "invalid_parameter",
        (
            "the columns of q are not orthonormal, to 1e-5 or in half precision to 1e-2: send the basis of an earlier "
            "answer, of eigh, or the identity"
        ),
    ),
    "unstable_once_rounded": (
        "not_converged",
        "X was found, but rounded to the dtype that was sent it leaves the closed loop unstable: send float64",
    ),
    "not_stabilisable": (
        "not_stabilisable",
        (
            "to rounding, B has no hold on an unstable mode, or the Hamiltonian has an imaginary eigenvalue, in "
            "discrete time the pencil one on the unit circle"
        ),
    ),
}

REMARKS: Final[Mapping[str, str]] = {
    "damped": (
        "default damping: the answer is that of A + {shift:.3g} I, {damping:.2g} of the largest eigenvalue; "
        'damping="range" leaves the null space out'
    ),
    "negative": "eigenvalues below -8 eps of the largest count as 0",
    "semidefinite": (
        "A + {shift:.3g} I is not positive definite beyond rounding: negative eigenvalues of A count as 0, "
        'and no error estimate can be given; damping="range" leaves the null space out'
    ),
    "unbounded": "singular to rounding, or beyond the largest number of the dtype: the upper end is infinite",
    "near_axis": "rounding of A may carry an eigenvalue across the imaginary axis: no error estimate can be given",
    "near_negative_axis": (
        "rounding of A may carry an eigenvalue across the negative axis: no error estimate can be given"
    ),
    "ill_conditioned": "singular to rounding: no error estimate can be given; see the condition",
    "on_a_bound": "a value lies on a bound to rounding, where a clip has no derivative: it counts as inside",
    "close_eigenvalues": (
        "eigenvalues are equal to rounding: what turns their vectors among themselves has no derivative and counts as "
        "0, and no error estimate can be given"
    ),
    "no_full_rank": (
        "a singular value is 0 to rounding, where H has no derivative: no error estimate of the gradient can be given"
    ),
    "rank_deficient": "a covariance has no full rank: the gradients are those for changes that keep the ranks",
    "asymmetric_weights": "Q or R is asymmetric beyond rounding: the answer is that of (Q + Q^T) / 2, (R + R^T) / 2",
    "asymmetric": "||A - A^H||_F is above 8 eps ||A||_F: the answer is that of (A + A^H) / 2",
}
"""Templates for the certificate's shift and damping."""

PINNED: Final = "{method} found no answer that it can vouch for: leave the method to auto"

_DETAILS: Final[Mapping[str, str]] = {
    "not_positive": "an eigenvalue is negative, or zero where it may not be",
    "singular": "the matrix is singular",
    "sign_undefined": "the sign is undefined",
    "not_stabilisable": "there is no stabilising solution",
    "out_of_range": "an entry of the answer is too large for its dtype",
    "not_converged": "the tolerance asked for was not met",
    "invalid_parameter": "an argument does not fit this matrix",
}
"""The detail of an error, by code."""


def detail_of(code: str, function: str) -> str:
    """The detail of an error that a function has with this code."""
    if code == "singular" and function.startswith("solve_"):
        return "the equation is singular"
    return _DETAILS.get(code, code)


def refusal(reason: str, dtype: torch.dtype) -> tuple[str, str]:
    """Code and hint of a matrix for which a method reports this reason, whose answer would have the dtype."""
    code, hint = _FAILURES[reason]
    if reason != OVER_RANGE:
        return code, hint
    wider = "" if torch.finfo(dtype).bits == _WIDEST else ", or send a wider dtype"
    return code, hint.format(dtype=str(dtype).removeprefix("torch."), wider=wider)


def lost(precision: Precision) -> str:
    """The hint where no finite answer was found in the highest precision allowed."""
    if precision is Precision.FP64:
        return "no answer was found that could be vouched for: the problem is at the limits of float64"
    return f"no finite answer in {precision}: allow more precision"
