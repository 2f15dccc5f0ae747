"""The equations A X + X B = Q and A X + X A^T = Q of real matrices in C, a batch at a time.

Method and estimates are those of `sylvester` and `linear`: Schur forms by LAPACK, substitution, refinement by residuals
in more digits, 1 / sep by power iteration. Substitution treats two columns of a block as one complex column, with which
the columns of the block differ by a diagonal scaling alone. Residuals are sums of exact products and of rests, 2^-20 of
them or less, in pairs of float64 numbers. Equations that are nearly singular, on which a Schur form or the estimate
breaks down, or of which no digit is promised are left to `sylvester`.
References: Bartels and Stewart, Comm. ACM 15 (1972); Golub, Nash and Van Loan, IEEE Trans. Automatic Control 24 (1979);
Higham, Accuracy and Stability (2002), chapter 16.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self

from matfn_kernels.linalg import native_equations as equations
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.scaling import normalise, rescale
from matfn_kernels.methods.equations import linear
from matfn_kernels.methods.equations.sylvester import SylvesterProgram, common_exponent
from matfn_kernels.numbers.extended_product import CANCELLING
from matfn_kernels.numbers.precision import Precision, working
from matfn_kernels.programs.findings import Findings, replaced

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import torch
    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.program import Program

__all__ = ["NativeSylvester"]

_LARGEST: Final = 128
"""Largest order: the residual's exact products keep 22 bits, and one equation takes one thread."""
_EXTENDED: Final = 2.0**-63
"""Rounding of a residual relative to the sum of its terms, many times that of a rest of 2^-20 of them in float64."""
_ENOUGH: Final = 1.0
"""A residual in units of eps and of the terms' norms after a refinement, twice what rounding of X leaves: another one
gains no digit."""
_CALL: Final = 1e-6
"""Seconds that a matrix takes of any order, of Python's calls for a batch and of small loops."""
_PRODUCTS: Final = 230.0
"""Price of a matrix of each order beside, in products of iterations in C: 240 at order 20, 215 at 50 and 228 at 100, of
which the Schur form is two thirds (AMD EPYC, AVX-512)."""
_TILE: Final = 16
"""Order up to which these products take the same time, and equations time by the square of their order."""
_RULES: Final = equations.Rules(
    stored=linear.STORED,
    enough=_ENOUGH,
    suspicious=linear.SUSPICIOUS,
    margin=linear.MARGIN,
    rounding=linear.ROUNDING,
    extended=_EXTENDED,
    cancelling=CANCELLING,
    crude=linear.CRUDE,
    hopeless=linear.HOPELESS,
)


@dataclass(frozen=True, slots=True)
class NativeSylvester:
    """Sylvester and Lyapunov equations of real matrices in C; the key of a batch.

    Attributes:
        usual: the program that solves what is left.
    """

    usual: SylvesterProgram

    method: ClassVar[str] = "schur"
    kernel: ClassVar[Kernel] = Kernel.NATIVE
    precision: ClassVar[Precision] = Precision.FP64
    ceiling: ClassVar[Precision] = Precision.FP64

    @classmethod
    def serving(cls, usual: SylvesterProgram) -> Sequence[Self]:
        """The program beside the usual one, if the kernels in C solve such equations."""
        fits = max(usual.rows, usual.columns or 0) <= _LARGEST and "e" not in usual.given
        return (cls(usual),) if fits and not usual.dtype.is_complex and native.is_built() and lapack.is_ready() else ()

    @property
    def dtype(self) -> torch.dtype:
        """Of the inputs and outputs."""
        return self.usual.dtype

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, m, m), q (batch, m, n), and b (batch, n, n) with columns."""
        wide = {name: tensor.to(working(self.precision, self.dtype)) for name, tensor in inputs.items()}
        q, exponent = normalise(wide.pop("q"))
        common = common_exponent(list(wide.values())).to(exponent.dtype)
        scaled = {name: rescale(tensor, -common) for name, tensor in wide.items()}
        x, found = equations.solutions(scaled["a"], scaled.get("b"), q, _RULES)
        answered = Findings(
            outputs=(x,),
            exponents=(exponent - common,),
            residual_name="A X + X A^H - Q" if self.usual.columns is None else "A X + X B - Q",
            residual=found.residual,
            error=found.error,
            condition=found.condition,
        )
        left = found.open != 0
        if not bool(left.any()):
            return answered
        return replaced(answered, left, self.usual.run({name: tensor[left] for name, tensor in inputs.items()}))

    def fallbacks(self) -> tuple[Program, ...]:
        """No fallback: there is no other method."""
        return ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices."""
        return self.usual.empty(inputs)

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: products in C, fewer for matrices below a tile."""
        orders = [order for order in (self.usual.rows, self.usual.columns) if order is not None]
        parts = (min(1.0, order / _TILE) ** 2 * profile.cost("native", self.precision, order) for order in orders)
        return _CALL + _PRODUCTS * sum(parts)
