"""The catalogue of functions: inputs, parameters, outputs, errors and methods of each.

One table serves the kernels, the HTTP routes, the OpenAPI document, the generated client methods and the command
line, so that none of them can drift from the others. It needs nothing but the standard library.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

from matfn_kernels.contract.schema import VERIFY, VJP, Function, Heads, Input, OnRequest, Packing, Parameter, Value

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "DTYPES",
    "ENTRIES",
    "FUNCTIONS",
    "MAX_CHUNK",
    "MAX_COEFFICIENT_ROWS",
    "MAX_DAMPING",
    "MAX_OFFSETS",
    "MAX_PLACE",
    "MAX_POWER",
    "MAX_ROOT",
    "MAX_STEPS",
    "OPTIONS",
    "Function",
    "Input",
    "Parameter",
    "Value",
    "options_of",
    "unknown",
]

MAX_ROOT: Final = 64
"""Largest r and s: the residual of a power takes r + s products with columns."""
MAX_POWER: Final = 64.0
"""Largest magnitude of p: that of root's s / r."""
MAX_STEPS: Final = 64
"""Most steps that a call of msign may name: it bounds the cost of a call."""
MAX_COEFFICIENT_ROWS: Final = 64
"""Most rows of coefficients in a call of msign, one for each of the most steps."""
MAX_CHUNK: Final = 1024
"""Most rows a chunk of delta_rule: each chunk solves a triangular system of that order, in O(chunk^2) memory."""
MAX_OFFSETS: Final = 4096
"""Most offsets of packed sequences: as many values as the params of a call may hold."""
MAX_DAMPING: Final = 1e100
"""Largest relative shift: A scaled near 1, shifted by it and squared stays within float64's range."""
MAX_PLACE: Final = 8.0
"""Largest |t| of a point of a geodesic: beyond it little is left of a matrix but its largest eigenvalue."""
_SHOWN: Final = 64
"""Most letters of a name that are repeated in a message."""
DTYPES: Final = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


_A = Input("a", ("n", "n"), "symmetric (Hermitian) positive semidefinite matrices", symmetric=True)
_G = Input("g", ("m", "n"), "matrices multiplied from the left", optional=True)
_M = Input("m", ("m", "n"), "matrices of any shape and rank")
_T = Input(
    "t",
    ("n", "n"),
    "triangular matrices; the other triangle is never read",
    triangular=True,
    nonzero=True,
    padding=1.0,
)
"""Padded by the identity, which is its own inverse."""
_SQUARE = Input("a", ("n", "n"), "square matrices", padding=1.0)
"""Padded by eigenvalues 1, which have a sign and sum to no zero with one another."""
_STABLE = replace(_SQUARE, padding=-1.0)
"""Padded by eigenvalues -1, which are stable."""
_DESCRIPTOR = Input("e", ("n", "n"), "nonsingular descriptor matrices, I if not given", optional=True, padding=1.0)
"""Padded by the identity: the padded states have those of the other matrices."""
_WEIGHTS = (
    Input("b", ("n", "m"), "input matrices"),
    Input("q", ("n", "n"), "symmetric (Hermitian) weights of the state", symmetric=True),
    Input(
        "r", ("m", "m"), "symmetric (Hermitian) weights of the input, nonsingular in continuous time", symmetric=True
    ),
)
_GAIN = OnRequest("y", ("m", "n"), "gain", "also the gain K of the control u = -K x, as y")
_CROSS = Input("s", ("n", "m"), "cross weights of the state and the input, 0 if not given", optional=True)
_DIAG = Input("diag", ("n",), "the diagonal, no entry zero", nonzero=True, padding=1.0)
"""Padded by ones, since no entry may be zero."""
_Q = Input("q", ("n", "d"), "left generators of the strictly lower part")
_K = Input("k", ("n", "d"), "right generators of the strictly lower part")
_B = Input("b", ("n", "m"), "right-hand sides")

_R = Parameter("r", "integer", "the root", required=True, positional=True, minimum=1, maximum=MAX_ROOT)
"""Bounded by `MAX_ROOT`, as s is."""
_S = Parameter("s", "integer", "the power", default=1, positional=True, minimum=1, maximum=MAX_ROOT)
"""By default the root itself."""
_STRUCTURE = Parameter(
    "structure",
    "string",
    "what the matrix is declared to be",
    default="symmetric",
    choices=("symmetric", "general"),
)
_DAMPING = Parameter(
    "damping",
    "damping",
    'shift relative to the largest eigenvalue; None: only where needed; 0: never; "range": the null space is left out',
    nullable=True,
    minimum=0.0,
    maximum=MAX_DAMPING,
    choices=("range",),
    varies=True,
)
"""From 0, which never shifts, to `MAX_DAMPING`."""
_SHIFT = Parameter(
    "shift",
    "number",
    "the number added to the diagonal, in place of a damping; eigenvalues negative beyond rounding count as 0 before",
    nullable=True,
    minimum=0.0,
    varies=True,
)
_LOWER = Parameter("lower", "boolean", "which triangle is meant", default=True)
_UNIT = Parameter("unit_diagonal", "boolean", "take the diagonal as ones, whatever is stored there", default=False)
_TRANSPOSE = Parameter(
    "transpose", "boolean", "solve with the transpose T^T, of complex matrices too: not with the adjoint", default=False
)

_SYMMETRIC_ERRORS = (
    "invalid_shape",
    "invalid_parameter",
    "unsupported_dtype",
    "not_finite",
    "not_symmetric",
    "not_positive",
    "singular",
    "out_of_range",
    "not_converged",
)
_POSITIVE_ERRORS = tuple(code for code in _SYMMETRIC_ERRORS if code != "singular")
_BOUNDED_ERRORS = ("invalid_shape", "invalid_parameter", "unsupported_dtype", "not_finite", "not_converged")
"""Of functions whose values are in the range of every dtype that their arguments have."""
_POLAR_ERRORS = (*_BOUNDED_ERRORS, "out_of_range")
_TRIANGULAR_ERRORS = (
    "invalid_shape",
    "invalid_parameter",
    "unsupported_dtype",
    "not_finite",
    "singular",
    "out_of_range",
    "not_converged",
)
_SIGN_ERRORS = (*_POLAR_ERRORS, "sign_undefined")

_ROOTS = ("engine", "eigh", "schur")
_POLAR = ("newton_schulz", "gram", "svd")
_SIGNS = ("newton", "newton_schur")
_BY_EIGH = ("eigh",)
_BY_EIGH_OR_SCHUR = ("eigh", "schur")
_BY_SVD = ("svd",)

FUNCTIONS: Final[dict[str, Function]] = {
    function.name: function
    for function in (
        Function(
            name="root",
            summary="Power A^(s/r) of symmetric positive semidefinite matrices, or G A^(s/r).",
            formula="A^{s/r} or G A^{s/r}",
            inputs=(_A, _G),
            parameters=(_R, _S, _STRUCTURE, _DAMPING, _SHIFT),
            complex_ok=True,
            errors=_SYMMETRIC_ERRORS,
            source="Su, kexue.fm/archives/11175; Guo and Higham, SIAM J. Matrix Anal. Appl. 28 (2006)",
            output_shapes=(("m|n", "n"),),
            reference="root",
            verifiability="bound",
            methods=_ROOTS,
            gradient_methods=_BY_EIGH_OR_SCHUR,
        ),
        Function(
            name="inv_root",
            summary="Inverse power A^(-s/r) of symmetric positive definite matrices, or G A^(-s/r).",
            formula="A^{-s/r} or G A^{-s/r}",
            inputs=(_A, _G),
            parameters=(_R, _S, _STRUCTURE, _DAMPING, _SHIFT),
            complex_ok=True,
            errors=_SYMMETRIC_ERRORS,
            source="Su, kexue.fm/archives/11175; Guo and Higham, SIAM J. Matrix Anal. Appl. 28 (2006)",
            output_shapes=(("m|n", "n"),),
            reference="inv_root",
            verifiability="bound",
            methods=_ROOTS,
            gradient_methods=_BY_EIGH_OR_SCHUR,
        ),
        Function(
            name="sqrt_pair",
            summary="Square root and inverse square root of the same symmetric matrices, in one pass.",
            formula="(A^{1/2}, A^{-1/2})",
            inputs=(_A,),
            parameters=(_STRUCTURE, _DAMPING, _SHIFT),
            outputs=("x", "y"),
            complex_ok=True,
            errors=tuple(code for code in _SYMMETRIC_ERRORS if code != "out_of_range"),
            source="Su, kexue.fm/archives/11158; Higham, Functions of Matrices (2008), section 6",
            output_shapes=(("n", "n"), ("n", "n")),
            reference="sqrt_pair",
            verifiability="bound",
            methods=_ROOTS,
            gradient_methods=_BY_EIGH_OR_SCHUR,
        ),
        Function(
            name="log",
            summary="Principal logarithm of symmetric positive definite matrices.",
            formula="log(A)",
            inputs=(
                Input("a", ("n", "n"), "symmetric (Hermitian) positive definite matrices", symmetric=True, padding=1.0),
            ),
            parameters=(_STRUCTURE, _DAMPING, _SHIFT),
            complex_ok=True,
            errors=_SYMMETRIC_ERRORS,
            source="Higham, Functions of Matrices (2008), chapter 11",
            output_shapes=(("n", "n"),),
            reference="log",
            verifiability="bound",
            methods=_BY_EIGH_OR_SCHUR,
            gradient_methods=_BY_EIGH_OR_SCHUR,
        ),
        Function(
            name="exp",
            summary="Exponential e^(t A) of symmetric matrices.",
            formula="e^{t A}",
            inputs=(Input("a", ("n", "n"), "symmetric (Hermitian) matrices", symmetric=True),),
            parameters=(
                Parameter("t", "number", "factor of the matrices", default=1.0, varies=True),
                _STRUCTURE,
            ),
            complex_ok=True,
            errors=(*_POLAR_ERRORS, "not_symmetric"),
            source="Higham, Functions of Matrices (2008), chapter 10",
            output_shapes=(("n", "n"),),
            reference="exp",
            verifiability="bound",
            methods=("eigh", "scaling_squaring"),
            gradient_methods=("eigh", "scaling_squaring"),
        ),
        Function(
            name="power",
            summary="Real power A^p of symmetric matrices, or G A^p; semidefinite unless p is a whole number.",
            formula="A^p or G A^p",
            inputs=(
                Input(
                    "a",
                    ("n", "n"),
                    "symmetric (Hermitian) matrices; positive semidefinite unless p is a whole number",
                    symmetric=True,
                    padding=1.0,
                ),
                _G,
            ),
            parameters=(
                Parameter(
                    "p",
                    "number",
                    "the exponent",
                    required=True,
                    positional=True,
                    minimum=-MAX_POWER,
                    maximum=MAX_POWER,
                    varies=True,
                ),
                _STRUCTURE,
                _DAMPING,
                _SHIFT,
            ),
            complex_ok=True,
            errors=_SYMMETRIC_ERRORS,
            source="Higham and Lin, SIAM J. Matrix Anal. Appl. 34 (2013); Higham, Functions of Matrices (2008)",
            output_shapes=(("m|n", "n"),),
            reference="real_power",
            verifiability="bound",
            methods=("eigh", "schur", "squaring"),
            gradient_methods=("eigh", "schur", "squaring"),
        ),
        Function(
            name="msign",
            summary="Polar factor U V^T of matrices of any shape, on their numerical range.",
            formula="U V^T where sigma > 8 eps sigma_max, 0 below, eps at most that of float32",
            inputs=(_M,),
            parameters=(
                Parameter(
                    "steps",
                    "integer",
                    "number of Newton-Schulz steps, obeyed without escalation",
                    nullable=True,
                    minimum=1,
                    maximum=MAX_STEPS,
                    replaces=True,
                ),
                Parameter(
                    "coefficients",
                    "coefficients",
                    "rows (a, b, c) of Newton-Schulz coefficients, the last repeated, obeyed without escalation",
                    nullable=True,
                    maximum=MAX_COEFFICIENT_ROWS,
                    replaces=True,
                ),
                Parameter(
                    "scale",
                    "string",
                    "norm that explicit steps or coefficients divide M by: |M|_F, as Muon does and the default with "
                    "coefficients, or |M^T M|_F^(1/2), nearer to sigma_max and the default without",
                    nullable=True,
                    choices=("frobenius", "schatten4"),
                    replaces=True,
                ),
            ),
            complex_ok=True,
            errors=_BOUNDED_ERRORS,
            source="Su, kexue.fm/archives/10922 and 10996; Amsel et al., arXiv 2505.16932",
            output_shapes=(("m", "n"),),
            reference="msign",
            verifiability="bound",
            methods=_POLAR,
            gradient_methods=_BY_SVD,
        ),
        Function(
            name="mclip",
            summary="Singular values clipped to [lo, hi]: U clip(S, lo, hi) V^T; lo acts on the numerical range only.",
            formula="U clip(S, lo, hi) V^T",
            inputs=(_M,),
            parameters=(
                Parameter("hi", "number", "upper bound; None is open", default=1.0, nullable=True, minimum=0.0),
                Parameter("lo", "number", "lower bound, at most hi", default=0.0, minimum=0.0),
            ),
            complex_ok=True,
            errors=_POLAR_ERRORS,
            source="Su, kexue.fm/archives/11006 and 11059",
            output_shapes=(("m", "n"),),
            reference="mclip",
            verifiability="bound",
            methods=_POLAR,
            gradient_methods=_BY_SVD,
        ),
        Function(
            name="polar",
            summary="Polar decomposition M = U H: U as msign's, H positive semidefinite of the columns' order.",
            formula="(U V^T, V S V^T) with M = U S V^T",
            inputs=(_M,),
            outputs=("x", "y"),
            output_shapes=(("m", "n"), ("n", "n")),
            reference="polar",
            verifiability="bound",
            complex_ok=True,
            errors=_POLAR_ERRORS,
            source="Higham, Functions of Matrices (2008), chapter 8",
            methods=("svd",),
            gradient_methods=_BY_SVD,
        ),
        Function(
            name="norm2",
            summary="Intervals that hold the 2-norm, the largest singular value: proved bounds.",
            formula="(lo, hi) with lo <= sigma_max(M) <= hi",
            inputs=(_M,),
            outputs=("x", "y"),
            kinds=("real", "real"),
            output_shapes=((), ()),
            reference="norm2",
            complex_ok=True,
            errors=_BOUNDED_ERRORS,
            source="Kato, J. Phys. Soc. Japan 4 (1949); Rump, BIT 51 (2011)",
            methods=_BY_SVD,
        ),
        Function(
            name="cond",
            summary="Intervals that hold the condition number sigma_max / sigma_min: proved bounds.",
            formula="(lo, hi) with lo <= sigma_max(M) / sigma_min(M) <= hi, infinite for singular M",
            inputs=(_M,),
            outputs=("x", "y"),
            kinds=("real", "real"),
            output_shapes=((), ()),
            reference="cond",
            complex_ok=True,
            errors=(*_BOUNDED_ERRORS, "singular"),
            source="Kato, J. Phys. Soc. Japan 4 (1949); Rump, BIT 51 (2011)",
            methods=_BY_SVD,
        ),
        Function(
            name="mcsgn",
            summary="Matrix sign of square matrices without an eigenvalue on the imaginary axis; always in float64.",
            formula="A (A^2)^{-1/2}",
            inputs=(_SQUARE,),
            complex_ok=True,
            errors=_SIGN_ERRORS,
            source="Su, kexue.fm/archives/11056; Higham, Functions of Matrices (2008), chapter 5",
            output_shapes=(("n", "n"),),
            reference="mcsgn",
            methods=_SIGNS,
        ),
        Function(
            name="solve_sylvester",
            summary="Solution X of A X + X B = Q; no eigenvalue of A is minus one of B.",
            formula="A X + X B = Q",
            inputs=(
                Input("a", ("m", "m"), "square matrices", padding=1.0),
                Input("b", ("n", "n"), "square matrices", padding=1.0),
                Input("q", ("m", "n"), "right-hand sides"),
            ),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Bartels and Stewart, Comm. ACM 15 (1972); Higham, Accuracy and Stability (2002), chapter 16",
            output_shapes=(("m", "n"),),
            reference="solve_sylvester",
            verifiability="estimate",
            methods=("schur",),
            gradient_methods=("schur",),
        ),
        Function(
            name="solve_lyapunov",
            summary="Solution X of A X + X A^H = Q or A X E^H + E X A^H = Q; eigenvalues with l + conj(m) != 0.",
            formula="A X + X A^H = Q or A X E^H + E X A^H = Q",
            inputs=(_SQUARE, Input("q", ("n", "n"), "right-hand sides"), _DESCRIPTOR),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Bartels and Stewart, Comm. ACM 15 (1972); Higham, Accuracy and Stability (2002), chapter 16",
            output_shapes=(("n", "n"),),
            reference="solve_lyapunov",
            verifiability="estimate",
            methods=("schur",),
            gradient_methods=("schur",),
        ),
        Function(
            name="solve_discrete_lyapunov",
            summary="Solution X of A X A^H - X + Q = 0 or A X A^H - E X E^H + Q = 0; eigenvalues with l conj(m) != 1.",
            formula="A X A^H - X + Q = 0 or A X A^H - E X E^H + Q = 0",
            inputs=(Input("a", ("n", "n"), "square matrices"), Input("q", ("n", "n"), "constant terms"), _DESCRIPTOR),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Smith, SIAM J. Appl. Math. 16 (1968); Higham, Accuracy and Stability (2002), chapter 16",
            output_shapes=(("n", "n"),),
            reference="solve_discrete_lyapunov",
            verifiability="estimate",
            methods=("doubling", "bilinear"),
            gradient_methods=("bilinear",),
        ),
        Function(
            name="solve_care",
            summary="Stabilising solution X of the Riccati equation in continuous time, "
            "with descriptor E and cross term S.",
            formula="A^H X E + E^H X A - (E^H X B + S) R^{-1} (B^H X E + S^H) + Q = 0, E = I and S = 0 if not given",
            inputs=(_STABLE, *_WEIGHTS, _DESCRIPTOR, _CROSS),
            parameters=(Parameter("gain", "boolean", _GAIN.summary, default=False),),
            complex_ok=True,
            errors=(*_TRIANGULAR_ERRORS, "not_symmetric", "not_stabilisable"),
            source="Chu, Fan and Lin, Linear Algebra Appl. 396 (2005); Kleinman, IEEE Trans. Autom. Control 13 (1968)",
            output_shapes=(("n", "n"),),
            on_request=(_GAIN,),
            reference="solve_care",
            verifiability="estimate",
            methods=("doubling", "newton_kleinman"),
            gradient_methods=("newton_kleinman",),
        ),
        Function(
            name="solve_dare",
            summary="Stabilising solution X of the Riccati equation in discrete time, "
            "with descriptor E and cross term S.",
            formula="A^H X A - E^H X E - (A^H X B + S) (R + B^H X B)^{-1} (B^H X A + S^H) + Q = 0, E = I and S = 0 "
            "if not given",
            inputs=(Input("a", ("n", "n"), "square matrices"), *_WEIGHTS, _DESCRIPTOR, _CROSS),
            parameters=(Parameter("gain", "boolean", _GAIN.summary, default=False),),
            complex_ok=True,
            errors=(*_TRIANGULAR_ERRORS, "not_symmetric", "not_stabilisable"),
            source="Chu, Fan, Lin and Wang, Int. J. Control 77 (2004); Hewer, IEEE Trans. Autom. Control 16 (1971)",
            output_shapes=(("n", "n"),),
            on_request=(_GAIN,),
            reference="solve_dare",
            verifiability="estimate",
            methods=("doubling", "newton_kleinman"),
            gradient_methods=("newton_kleinman",),
        ),
        Function(
            name="spectral_projector",
            summary="Projector on the invariant subspace of the eigenvalues in one half plane, along the others'.",
            formula="(I + S) / 2 or (I - S) / 2 with S the matrix sign",
            inputs=(_STABLE,),
            parameters=(Parameter("half", "string", "which half plane", default="right", choices=("right", "left")),),
            complex_ok=True,
            errors=_SIGN_ERRORS,
            source="Roberts, Int. J. Control 32 (1980); Higham, Functions of Matrices (2008), section 2.5",
            output_shapes=(("n", "n"),),
            reference="spectral_projector",
            methods=_SIGNS,
        ),
        Function(
            name="tri_inv",
            summary="Inverse of triangular matrices; the other triangle is never read.",
            formula="T^{-1}",
            inputs=(_T,),
            parameters=(_LOWER, _UNIT),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Higham, Accuracy and Stability of Numerical Algorithms (2002), section 14.2",
            output_shapes=(("n", "n"),),
            reference="tri_solve",
            verifiability="bound",
            methods=("blocked",),
            gradient_methods=("blocked",),
        ),
        Function(
            name="tri_solve",
            summary="Solution X of T X = B, or of T^T X = B, for triangular T.",
            formula="T^{-1} B",
            inputs=(_T, _B),
            parameters=(_LOWER, _UNIT, _TRANSPOSE),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Higham, Accuracy and Stability of Numerical Algorithms (2002), chapter 8",
            output_shapes=(("n", "m"),),
            reference="tri_solve",
            verifiability="bound",
            methods=("substitution",),
            gradient_methods=("substitution",),
        ),
        Function(
            name="dplr_inv",
            summary="Inverse of diagonal plus strictly lower low-rank matrices, diag(l) + tril(Q K^T, -1).",
            formula="(diag(l) + tril(Q K^T, -1))^{-1}",
            inputs=(_DIAG, _Q, _K),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Su, kexue.fm/archives/11072",
            output_shapes=(("n", "n"),),
            reference="dplr_solve",
            verifiability="bound",
            methods=("chunked",),
        ),
        Function(
            name="dplr_solve",
            summary="Solution X of (diag(l) + tril(Q K^T, -1)) X = B in O(n d m), the inverse never formed.",
            formula="(diag(l) + tril(Q K^T, -1))^{-1} B",
            inputs=(_DIAG, _Q, _K, _B),
            parameters=(_TRANSPOSE,),
            complex_ok=True,
            errors=_TRIANGULAR_ERRORS,
            source="Su, kexue.fm/archives/11072",
            output_shapes=(("n", "m"),),
            reference="dplr_solve",
            verifiability="bound",
            methods=("chunked",),
            gradient_methods=("chunked",),
        ),
        Function(
            name="frechet_distance",
            summary="Squared Fréchet distance of Gaussians, |mu1-mu2|^2 + tr S1 + tr S2 - 2 ||S1^(1/2) S2^(1/2)||_*.",
            formula="|mu1-mu2|^2 + tr S1 + tr S2 - 2 ||S1^{1/2} S2^{1/2}||_*",
            inputs=(
                Input("mu1", ("n",), "means"),
                Input("s1", ("n", "n"), "symmetric (Hermitian) positive semidefinite covariances", symmetric=True),
                Input("mu2", ("n",), "means"),
                Input("s2", ("n", "n"), "symmetric (Hermitian) positive semidefinite covariances", symmetric=True),
            ),
            complex_ok=True,
            kinds=("real",),
            errors=_POSITIVE_ERRORS,
            source="Dowson and Landau, J. Multivariate Anal. 12 (1982)",
            output_shapes=((),),
            reference="frechet_distance",
            methods=("eigh",),
            gradient_methods=_BY_EIGH,
        ),
        Function(
            name="eig_clip",
            summary="Symmetric matrices with eigenvalues clipped to [lo, hi]; lo=0 gives the nearest PSD matrices.",
            formula="V clip(w, lo, hi) V^T",
            inputs=(Input("a", ("n", "n"), "symmetric (Hermitian) matrices", symmetric=True),),
            parameters=(
                Parameter("lo", "number", "lower bound; None is open", nullable=True),
                Parameter("hi", "number", "upper bound, at least lo; None is open", nullable=True),
            ),
            complex_ok=True,
            errors=(*_POLAR_ERRORS, "not_symmetric"),
            source="Higham, Linear Algebra Appl. 103 (1988)",
            output_shapes=(("n", "n"),),
            reference="eig_clip",
            verifiability="bound",
            methods=("eigh",),
            gradient_methods=_BY_EIGH,
        ),
        Function(
            name="eigh",
            summary="Eigenvalues, ascending, and orthonormal eigenvectors of symmetric (Hermitian) matrices.",
            formula="(w, V): A V = V diag(w), V^H V = I, the largest entry of each column of V real and positive",
            inputs=(Input("a", ("n", "n"), "symmetric (Hermitian) matrices", symmetric=True),),
            outputs=("x", "y"),
            kinds=("real", "same"),
            complex_ok=True,
            errors=(*_POLAR_ERRORS, "not_symmetric"),
            source="Parlett, The Symmetric Eigenvalue Problem (1998); Cao, Xie and Li, Linear Algebra Appl. 239 (1996)",
            output_shapes=(("n",), ("n", "n")),
            reference="eigh",
            verifiability="bound",
            methods=("eigh",),
            gradient_methods=_BY_EIGH,
        ),
        Function(
            name="eigenbasis",
            summary="Eigenvectors in the order and with the signs of a previous basis, and how far that basis is off.",
            formula="(Q, w, drift, permutation): A Q = Q diag(w), column j of Q nearest to column permutation[j] of q, "
            "drift = ||offdiag(q^H A q)||_F / ||A||_F",
            inputs=(
                Input("a", ("n", "n"), "symmetric (Hermitian) matrices", symmetric=True),
                Input("q", ("n", "n"), "the previous basis, its columns orthonormal", orthonormal=True),
            ),
            parameters=(
                Parameter(
                    "order",
                    "string",
                    "the columns' order: that of q, or by eigenvalue",
                    default="previous",
                    choices=("previous", "ascending", "descending"),
                ),
                Parameter(
                    "tol_drift",
                    "number",
                    "largest drift at which q itself comes back, with w = diag(q^H A q), in its own order",
                    default=0.0,
                    minimum=0.0,
                ),
            ),
            outputs=("x", "y", "z", "w"),
            kinds=("same", "real", "real", "index"),
            complex_ok=True,
            errors=(*_POLAR_ERRORS, "not_symmetric"),
            source="Vyas et al., arXiv 2409.11321; Eschenhagen et al., arXiv 2506.03595",
            output_shapes=(("n", "n"), ("n",), (), ("n",)),
            reference="eigenbasis",
            methods=("eigh",),
        ),
        Function(
            name="geometric_mean",
            summary="Geometric mean A # B of symmetric positive definite matrices, or another point of the geodesic.",
            formula="A #_t B = A^{1/2} (A^{-1/2} B A^{-1/2})^t A^{1/2}",
            inputs=(
                Input("a", ("n", "n"), "symmetric (Hermitian) positive definite matrices", symmetric=True, padding=1.0),
                Input("b", ("n", "n"), "symmetric (Hermitian) positive definite matrices", symmetric=True, padding=1.0),
            ),
            parameters=(
                Parameter(
                    "t",
                    "number",
                    "the place on the geodesic: 0 is A, 1 is B, 1/2 the mean; beyond them its continuation",
                    default=0.5,
                    minimum=-MAX_PLACE,
                    maximum=MAX_PLACE,
                    varies=True,
                ),
            ),
            complex_ok=True,
            errors=_POSITIVE_ERRORS,
            source="Bhatia, Positive Definite Matrices (2007), chapter 4; Iannazzo, Linear Algebra Appl. 438 (2013)",
            output_shapes=(("n", "n"),),
            reference="geometric_mean",
            methods=("cholesky_polar",),
            gradient_methods=("cholesky_polar",),
        ),
        Function(
            name="max_logit",
            summary="Largest |q.k| scale of each attention head, block by block, over the pairs that a query may see.",
            formula="max_{i,j} |q_i . k_j| scale",
            inputs=(
                Input("q", ("h", "t", "d"), "queries"),
                Input("k", ("hk", "s", "d"), "keys, each head shared by h/hk heads of q"),
            ),
            parameters=(
                Parameter("scale", "number", "factor of the logits; None: d^(-1/2)", nullable=True, minimum=0.0),
                Parameter("causal", "boolean", "key j is visible to query i iff j <= i + s - t", default=True),
            ),
            errors=_POLAR_ERRORS,
            source="Su, kexue.fm/archives/11126",
            heads=Heads("q", "k"),
            output_shapes=(("h",),),
            reference="max_logit",
            methods=("blocked",),
        ),
        Function(
            name="qk_clip",
            summary="Query and key weights scaled so that no head's largest logit exceeds tau, and the factors gamma.",
            formula="(W_q, W_k, gamma), gamma_h = min(1, tau / max_logit_h)",
            inputs=(
                Input("w_q", ("h", "dq", "m"), "query weights of each head"),
                Input("w_k", ("hk", "dk", "m'"), "key weights of each head; mla: their nope part"),
                Input("max_logit", ("h",), "largest |logit| of each head"),
            ),
            parameters=(
                Parameter("tau", "number", "largest logit allowed", default=100.0, minimum=0.0),
                Parameter("variant", "string", "how heads share keys", default="mha", choices=("mha", "gqa", "mla")),
            ),
            outputs=("x", "y", "z"),
            errors=_BOUNDED_ERRORS,
            source="Su, kexue.fm/archives/11126; Kimi K2, arXiv 2507.20534",
            heads=Heads("w_q", "w_k", variant="variant"),
            output_shapes=(("h", "dq", "m"), ("hk", "dk", "m'"), ("h",)),
            reference="qk_clip",
            methods=("scaling",),
        ),
        Function(
            name="delta_rule",
            summary="Gated delta rule over a sequence, chunk by chunk: the outputs and the final state.",
            formula="(o, S_t), S_t = e^{g_t} S_{t-1} (I - beta_t k_t k_t^T) + beta_t v_t k_t^T, o_t = scale S_t q_t",
            inputs=(
                Input("q", ("t", "dk"), "queries"),
                Input("k", ("t", "dk"), "keys; not normalised"),
                Input("v", ("t", "dv"), "values"),
                Input("beta", ("t",), "writing strengths, 1 if not given", optional=True),
                Input(
                    "log_gate",
                    ("t",),
                    "logarithms of the gates, at most 0; 0 if not given",
                    optional=True,
                    nonpositive=True,
                ),
                Input(
                    "channel_log_gate",
                    ("t", "dk"),
                    "logarithms of gates for each channel of the keys, at most 0, in place of log_gate",
                    optional=True,
                    nonpositive=True,
                    excludes="log_gate",
                ),
                Input("initial_state", ("dk", "dv"), "the state before, transposed; 0 if not given", optional=True),
            ),
            parameters=(
                Parameter("chunk", "integer", "rows a chunk", default=64, minimum=1, maximum=MAX_CHUNK),
                Parameter("scale", "number", "factor of the outputs", default=1.0),
                Parameter(
                    "cu_seqlens",
                    "offsets",
                    "offsets of N sequences packed along t, from 0 to t; each has its own initial and final state, "
                    "(*, N, dk, dv)",
                    nullable=True,
                    maximum=MAX_OFFSETS,
                ),
            ),
            packing=Packing("cu_seqlens", "t", ("initial_state",), ("y",)),
            outputs=("x", "y"),
            errors=_POLAR_ERRORS,
            source="Yang et al., arXiv 2406.06484, 2412.06464; Kimi Linear, 2510.26692; Su, kexue.fm/archives/11033",
            output_shapes=(("t", "dv"), ("dk", "dv")),
            reference="delta_rule",
            methods=("chunked",),
        ),
    )
}

ENTRIES: Final[Mapping[str, Function]] = FUNCTIONS | {
    entry.name: entry
    for entry in (
        *(function.verification() for function in FUNCTIONS.values() if function.verifiability != "none"),
        *(function.gradient() for function in FUNCTIONS.values() if function.gradient_methods),
    )
}
"""All that can be called: the functions, the verifications of those whose answers can be verified, and the
vector-Jacobian products of those that have them."""

_METHODS = tuple(dict.fromkeys(method for function in FUNCTIONS.values() for method in function.methods))

OPTIONS: Final[tuple[Parameter, ...]] = (
    Parameter(
        "method",
        "string",
        "the cheapest by the profile (auto), or the only one that may answer",
        default="auto",
        nullable=True,
        choices=("auto", *_METHODS),
    ),
    Parameter(
        "certify",
        "string",
        "estimate the error, or prove a bound of it, by which the outcome is then judged",
        default="estimate",
        choices=("estimate", "proved"),
    ),
    Parameter(
        "tol",
        "number",
        "relative error wanted; None: what a backward-stable method in this dtype gives",
        nullable=True,
        minimum=0.0,
    ),
    Parameter(
        "precision",
        "string",
        "arithmetic never exceeded, or auto: the cheapest that meets tol",
        default="auto",
        choices=("auto", "bf16", "fp32", "fp64"),
    ),
    Parameter("deadline", "number", "seconds until the answer is worthless", nullable=True, minimum=0.0),
    Parameter("priority", "integer", "0 to 9; higher goes first", default=0, minimum=0, maximum=9),
    Parameter(
        "on_failure",
        "string",
        'raise a typed error, or answer a failed matrix with "nan"',
        default="raise",
        choices=("raise", "nan"),
    ),
)
"""The options of every call; the deadline and the priority are read by the service alone."""


def options_of(function: Function) -> tuple[Parameter, ...]:
    """The options of a function's calls: those of every call, with its own methods to choose from."""
    choices = ("auto", *function.methods)
    return tuple(replace(option, choices=choices) if option.name == "method" else option for option in OPTIONS)


def unknown(name: str) -> tuple[str, str]:
    """Says why a name is none of `ENTRIES`, and which names there are.

    Args:
        name: not in `ENTRIES`.

    Returns:
        Detail and hint of the problem `unknown_function`.
    """
    prefix = next((prefix for prefix in (VERIFY, VJP) if name.startswith(prefix)), "")
    subject = name.removeprefix(prefix)
    known = ", ".join(entry for entry in (ENTRIES if prefix else FUNCTIONS) if entry.startswith(prefix))
    if prefix == VERIFY and subject in FUNCTIONS:
        why = "its inputs and a claimed answer alone do not tell the error"
        return f"answers of {subject} cannot be verified: {why}", f"answers that can be: {known}"
    if prefix == VJP and subject in FUNCTIONS:
        return f"there are no gradients of {subject}", f"functions that have them: {known}"
    shown = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
    return f"there is no function {shown!r}", f"known: {known}"
