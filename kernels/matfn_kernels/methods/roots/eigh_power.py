"""Powers through eigh: it serves every matrix, and finds the smallest eigenvalue and with it the damping."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.methods.roots import prices
from matfn_kernels.methods.roots.by_eigh import Diagonalised, Noise, by_eigh
from matfn_kernels.methods.roots.isolated import exact_where_isolated
from matfn_kernels.methods.roots.native_eigh_power import NativeEighPower
from matfn_kernels.methods.roots.power import PowerProgram
from matfn_kernels.numbers.precision import Precision
from matfn_kernels.programs.shared_decomposition import SharedEigen

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.linalg.decompositions import Decomposition
    from matfn_kernels.methods.roots.power import Power
    from matfn_kernels.programs.findings import Findings
    from matfn_kernels.programs.profile import Profile

__all__ = ["EighPower"]

_PASSES: Final = 25.0
"""Passes (`prices.passes`) of scaling and certifying: 24 at orders 32 to 128 on an Intel Xeon, in batches."""


@dataclass(frozen=True, slots=True)
class EighPower(PowerProgram):
    """A power by eigh in the highest precision that the call allows.

    Attributes:
        precision: the arithmetic, float32 or float64.
    """

    method: ClassVar[Literal["eigh"]] = "eigh"
    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    precision: Precision

    @property
    def ceiling(self) -> Precision:
        """The arithmetic that no fallback exceeds."""
        return self.precision

    @property
    def shared(self) -> SharedEigen:
        """The eigendecomposition, which serves any power and clipping of the matrix."""
        return SharedEigen(self.power.order, self.power.working(self.precision))

    def matrices(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """A (batch, n, n)."""
        return inputs["a"]

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a (batch, n, n) and, if the power has rows, g (batch, m, n)."""
        return self.finish(self.shared.of([inputs["a"]]), inputs)

    def run_some(self, inputs: Mapping[str, Tensor], wanted: Tensor) -> Findings:
        """Computes the matrices that are wanted (batch,), each as if all were."""
        return self.finish(Eigen.of([inputs["a"]], self.power.working(self.precision), wanted), inputs)

    def finish(self, decomposition: Decomposition, inputs: Mapping[str, Tensor]) -> Findings:
        """The powers of matrices that have been diagonalised."""
        assert isinstance(decomposition, Eigen)
        matrices = Diagonalised.of(self.power, self.precision, decomposition)
        found = by_eigh(matrices, self._noise(matrices), inputs.get("g"))
        return exact_where_isolated(self.power, inputs, found)

    def _noise(self, matrices: Diagonalised[Power]) -> Noise:
        """In float32 as measured; the law in float64 and of pseudo-inverse powers, whose derivative is not monotone."""
        is_measured = self.precision is Precision.FP32 and not self.power.drops
        return matrices.measured() if is_measured else matrices.lawful()

    def variants(self) -> tuple[EighPower | NativeEighPower, ...]:
        """Itself, and all of it in C where that serves."""
        in_c = self.precision is NativeEighPower.precision and NativeEighPower.serves(self.power)
        return (self, NativeEighPower(self.power, self.pinned, self)) if in_c else (self,)

    def fallbacks(self) -> tuple[EighPower, ...]:
        """None: nothing serves more matrices."""
        return ()

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, products and passes, priced by the profile."""
        return prices.by_eigh(self.power, self.precision, _PASSES, profile)
