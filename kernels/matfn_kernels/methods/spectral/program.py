"""Logarithms, exponentials and powers of symmetric (Hermitian) matrices by eigh.

log A, e^(tA), A^p and G A^p are V f(w) V^H of A + shift I = V diag(w) V^H, in the highest precision that a call allows.
The domain is that of the function (`question`), the error and condition are those of `by_eigh`. A^0 is I and A^1 is A,
bit for bit; numbers that are alone in their row and column have the function of their own (`isolated`). An answer with
an entry beyond the range of its dtype is `out_of_range`.
Reference: Higham, Functions of Matrices (2008), sections 1.2 and 4.5.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import invariant, probes
from matfn_kernels.linalg.backward_error import asymmetric, relative_to_truth
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import add_diagonal, symmetric_product, symmetrise
from matfn_kernels.linalg.scaling import overflows
from matfn_kernels.methods.general_functions.beside_identity import logarithms, near_identity
from matfn_kernels.methods.roots.by_eigh import Left
from matfn_kernels.methods.spectral.by_eigh import Image
from matfn_kernels.methods.spectral.isolated import exact_where_isolated
from matfn_kernels.methods.spectral.maps import Logarithm, WholePower
from matfn_kernels.methods.spectral.question import admitted
from matfn_kernels.numbers.precision import FLOOR, Precision, spacing
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.kernel_prices import pass_cost
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.roots.by_eigh import Diagonalised, Noise
    from matfn_kernels.methods.spectral.question import Question
    from matfn_kernels.programs.profile import Profile

__all__ = ["SpectralProgram"]

_PASSES: Final = 25.0
"""Passes (`kernel_prices.pass_cost`) of scaling and certifying: as many as those of powers by eigh."""


@dataclass(frozen=True, slots=True)
class SpectralProgram:
    """A function of symmetric matrices by eigh in the highest precision that the call allows.

    Attributes:
        question: the function, and what all matrices of a batch have in common.
        precision: the arithmetic, float32 or float64.
    """

    method: ClassVar[str] = "eigh"
    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    question: Question
    precision: Precision

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return self.precision

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.question.dtype

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any function of the matrix."""
        return SharedEigen(self.question.order, self.question.working(self.precision))

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the power has rows, g (batch, m, n)."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """The function of matrices that have been diagonalised."""
        assert isinstance(decomposition, Eigen)
        matrices = admitted(self.question, self.precision, decomposition)
        found = _found(matrices, self._noise(matrices), inputs.get("g"))
        found = exact_where_isolated(matrices, inputs, found)
        return _beside_identity(found, inputs["a"]) if isinstance(self.question.function, Logarithm) else found

    def _noise(self, matrices: Diagonalised[Question]) -> Noise:
        """In float32 as measured; the law in float64, of functions that jump, and of logarithms.

        A residual does not show the skewness of V, which moves eigenvalues by rounding of ||A||: much of log A where A
        is near the identity.
        """
        jumps = self.question.drops or isinstance(self.question.function, Logarithm)
        is_measured = self.precision is Precision.FP32 and not jumps
        return matrices.measured() if is_measured else matrices.lawful()

    def fallbacks(self) -> tuple[SpectralProgram, ...]:
        """None: nothing serves more matrices."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """The output where some dimension is zero."""
        return self.question.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, a product and passes."""
        question = self.question
        share = 1.0 if question.rows is None else question.rows / max(1, question.order)
        products = share * profile.cost("gemm", self.precision, question.order)
        decomposition = profile.cost("eigh", self.precision, question.order)
        return decomposition + products + _PASSES * pass_cost(profile, question.order)


def _beside_identity(found: Findings, a: Tensor) -> Findings:
    """The findings, of logarithms of matrices near I, unshifted, without their decomposition; on a CPU.

    A lower precision than that of A rounds A - I away: such matrices keep the findings that count it.
    """
    (value,), (exponent,) = found.outputs, found.exponents
    if not a.is_cpu:
        return found
    taken = a.to(value.dtype)
    near = near_identity(taken) & (taken.to(a.dtype) == a).flatten(1).all(-1)
    near = near if found.shift is None else near & (found.shift == 0)
    rows = near.nonzero().flatten()
    if not len(rows):
        return found
    own = a[rows].to(value.dtype)
    logarithm, error, condition = logarithms((own + own.mH) / 2)
    return replace(
        found,
        outputs=(value.index_copy(0, rows, symmetrise(logarithm)),),
        exponents=(None if exponent is None else exponent.index_fill(0, rows, 0),),
        error=found.error.index_copy(0, rows, error),
        condition=found.condition.index_copy(0, rows, condition),
    )


def _found(matrices: Diagonalised[Question], noise: Noise, g: Tensor | None) -> Findings:
    """The findings of matrices that have been diagonalised, multiplied by G if there is one."""
    question, eigen, rules = matrices.power, matrices.eigen, matrices.rules
    left = None if g is None else Left.of(g, eigen.a.dtype)
    image = Image.of(matrices)
    coordinates = eigen.v if left is None else invariant.product(left.value, eigen.v)
    weights = torch.ones_like(image.f) if left is None else invariant.row_norm(coordinates.mT, torch.float64)
    value, lacking, error = _trivial(matrices, left) or _assembled(image, coordinates, left)
    if error is None:
        error = relative_to_truth(image.error(noise, weights, left) + eigen.skew)
    counted = rules.keep if question.drops else _above_rounding(matrices)
    return Findings(
        outputs=(value,),
        exponents=(lacking,),
        residual_name="A - V diag(w) V^H",
        residual=_residual(matrices),
        error=torch.where(rules.ambiguous, torch.inf, error),
        condition=image.condition(weights, left),
        rank=counted.sum(-1),
        damping=rules.damping,
        shift=invariant.ldexp(rules.shift, eigen.exponent),
        failures={**rules.failures, "over_range": overflows(value, lacking, question.dtype)},
        remarks={**rules.remarks, "asymmetric": asymmetric(eigen.given, eigen.a, matrices.eps)},
    )


def _assembled(image: Image, coordinates: Tensor, left: Left | None) -> tuple[Tensor, Tensor, None]:
    """V f(w) V^H or G V f(w) V^H, and the power of two that it lacks."""
    v, lacking = image.matrices.eigen.v, image.arguments.lacking
    scaled = coordinates * image.f[:, None, :].to(v.real.dtype)
    if left is None:
        return symmetric_product(scaled, v.mH), lacking, None
    return invariant.product(scaled, v.mH), lacking + left.exponent, None


def _trivial(matrices: Diagonalised[Question], left: Left | None) -> tuple[Tensor, Tensor, Tensor | None] | None:
    """A^0, A^1, G A^0 or G A^1, the power of two that it lacks, and its error; None for other functions."""
    function, eigen, shift = matrices.power.function, matrices.eigen, matrices.rules.shift
    if not isinstance(function, WholePower) or function.p not in (0, 1) or matrices.power.drops:
        return None
    if function.p == 0 and left is None:
        eye = torch.eye(eigen.a.shape[-1], dtype=eigen.a.dtype, device=eigen.a.device)
        return eye.repeat(len(eigen.a), 1, 1), torch.zeros_like(eigen.exponent), torch.zeros_like(shift)
    if function.p == 0:
        assert left is not None
        return left.value, left.exponent, left.lost
    a = add_diagonal(eigen.a.clone(), shift[:, None, None].to(eigen.a.real.dtype))
    if left is not None:
        return invariant.product(left.value, a), left.exponent + eigen.exponent, None
    lost = eigen.lost / invariant.matrix_norm(eigen.a, torch.float64).clamp_min(torch.finfo(torch.float64).tiny)
    rounded = (shift != 0) | torch.ne(eigen.given, eigen.a).flatten(1).any(-1)
    return a, eigen.exponent, lost + rounded * spacing(matrices.precision)


def _above_rounding(matrices: Diagonalised[Question]) -> Tensor:
    """Which eigenvalues of A itself are above 8 eps of the largest in magnitude, (batch, n)."""
    size = matrices.values if matrices.power.function.is_definite else matrices.values.abs()
    return size > FLOOR * matrices.eps * size.amax(-1, keepdim=True).clamp_min(0)


def _residual(matrices: Diagonalised[Question]) -> Tensor:
    """Relative residual of the decomposition on random columns, (batch,)."""
    eigen, v = matrices.eigen, matrices.eigen.v
    z = probes.gaussian(eigen.a, eigen.a.shape[-1]).to(eigen.a.dtype)
    missing = probes.times(eigen.a, z) - probes.times(v, eigen.w[..., None] * probes.times(v.mH, z))
    size, off = invariant.row_norm(matrices.values), probes.column_norm(missing.mT).to(torch.float64)
    return torch.where(size > 0, off / torch.where(size > 0, size, 1.0), 0.0)
