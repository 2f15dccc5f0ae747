"""Eigenvectors of Hermitian A in the order and with the signs of a previous basis Q0, and how far that is off.

The drift ||offdiag(Q0^H A Q0)||_F / ||A||_F says how far Q0 is from diagonalising A; where it is at most tol_drift, Q0
itself comes back, bit for bit, with w = diag(Q0^H A Q0) in its order. Otherwise the eigenvectors are matched to the
columns of Q0 (`matching`) and ordered as they are, or by their values. The zero matrix has drift 0.

Error: as that of `eigh`, of Q and w as returned; that of the drift is absolute. Where Q0 comes back, that of w and of
the drift alone: the residual then shows the drift.
References: Vyas et al., arXiv 2409.11321 (SOAP); Eschenhagen et al., arXiv 2506.03595 (the criterion).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final

import torch

from matfn_kernels.linalg import invariant
from matfn_kernels.linalg.backward_error import BACKWARD_ERROR, asymmetric
from matfn_kernels.linalg.decompositions import Eigen
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.products import symmetrise
from matfn_kernels.linalg.scaling import distance, narrowed, norm, real_dtype
from matfn_kernels.methods.hermitian.eigenpairs import Measured, double, measuring_seconds, skew_of
from matfn_kernels.methods.hermitian.matching import aligned, matched
from matfn_kernels.numbers.precision import Precision, spacing, working
from matfn_kernels.programs.findings import Findings
from matfn_kernels.programs.screening import asymmetry_limit

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from matfn_kernels.programs.profile import Profile
    from matfn_kernels.programs.signature import Signature

__all__ = ["EigenbasisProgram", "candidates"]

_CLUSTER: Final = 2 * BACKWARD_ERROR
"""Width of a cluster in eps ||A||_2: eigh moves each of two equal eigenvalues by at most half of it."""
_PRODUCTS: Final = 3.0
"""Products in the arithmetic: A Q0, Q0^H (A Q0) and V^H Q0."""
_ROUNDING: Final = 0.35
"""Rounding of w = diag(Q0^H A Q0) and of the drift in eps n^(1/2): two products were off by 0.14 to 0.27 each, of which
the drift and the diagonal see a part."""
_INPUTS: Final = 4.0
"""Error by the rounding of A and Q0 to the arithmetic in eps: half of one relative to each factor, with a margin."""


@dataclass(frozen=True, slots=True)
class EigenbasisProgram:
    """Matched eigenvectors: the values that all matrices in a batch share.

    Attributes:
        order: n.
        sorting: "previous", "ascending" or "descending".
        tol_drift: largest drift at which the previous basis comes back.
        dtype: of the inputs and vectors.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
    """

    kernel: ClassVar[Kernel] = Kernel.LIBRARY

    order: int
    sorting: str
    tol_drift: float
    dtype: torch.dtype
    precision: Precision
    ceiling: Precision

    @property
    def method(self) -> str:
        """The method's name in certificates."""
        return "eigh"

    @property
    def output_dtypes(self) -> tuple[torch.dtype, ...]:
        """Vectors, real eigenvalues and drift, and whole numbers in a real dtype that holds them all."""
        real = real_dtype(self.dtype)
        return self.dtype, real, real, torch.promote_types(real, torch.float32)

    def run(self, inputs: Mapping[str, Tensor]) -> Findings:
        """Computes a batch: inputs a and q (batch, n, n)."""
        wide, narrow = double(self.dtype), working(self.precision, self.dtype)
        a, before = symmetrise(narrowed(inputs["a"], wide)[0]), inputs["q"].to(narrow)
        state = _State.of(a.to(narrow), before)
        skewed = ~(skew_of(inputs["q"].to(wide)) <= asymmetry_limit(self.dtype))
        kept = (state.drift <= self.tol_drift) & ~skewed
        eigen = Eigen.of([inputs["a"]], narrow, ~(kept | skewed))
        w, q, order = self._matched(eigen, before)
        w = torch.where(kept[:, None], state.w, w).to(self.output_dtypes[1])
        q = torch.where(kept[:, None, None], inputs["q"], q.to(self.dtype))
        drift = state.drift.to(self.output_dtypes[2])
        measured = Measured.of(a, w.to(torch.float64), q.to(wide))
        rounding = spacing(self.precision) * (_INPUTS + _ROUNDING * math.sqrt(self.order))
        own = rounding + torch.maximum(distance(w.to(torch.float64), state.w), (drift - state.drift).abs())
        return Findings(
            outputs=(q, w, drift, order.to(self.output_dtypes[3])),
            exponents=(None, eigen.exponent, None, None),
            residual_name="A Q - Q diag(w)",
            residual=measured.residual,
            error=torch.where(kept, own, torch.maximum(measured.error, rounding + (drift - state.drift).abs())),
            condition=torch.ones_like(own),
            failures={"not_orthonormal": skewed},
            remarks={"asymmetric": asymmetric(eigen.given, eigen.a, torch.finfo(self.dtype).eps)},
        )

    def _matched(self, eigen: Eigen, before: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Eigenvalues (batch, n), eigenvectors (batch, n, n) and the columns of Q0 that are theirs (batch, n)."""
        w, v = eigen.w.to(torch.float64), torch.empty_like(eigen.v)
        order = torch.arange(self.order, device=w.device).expand_as(w).clone()
        overlaps = invariant.product(eigen.v.mH, before)
        unit = max(spacing(self.precision), min(torch.finfo(self.dtype).eps, spacing(Precision.FP32)))
        width = (_CLUSTER * unit * w.abs().amax(-1)).tolist()
        for i, is_found in enumerate(w.isfinite().all(-1).tolist()):
            if is_found:
                columns, clusters = matched(w[i], overlaps[i], width[i])
                w[i], v[i] = aligned(w[i], eigen.v[i], overlaps[i], columns, clusters)
                order[i] = torch.from_numpy(columns)
            else:
                v[i] = math.nan
        places = self._places(w, order)
        w, order = (x.gather(-1, places) for x in (w, order))
        return w, v.gather(-1, places[:, None, :].expand_as(v)), order

    def _places(self, w: Tensor, order: Tensor) -> Tensor:
        """For each column of the answer the eigenvector that stands there, (batch, n)."""
        if self.sorting == "previous":
            return order.argsort(-1)
        return w.sort(dim=-1, descending=self.sorting == "descending", stable=True).indices

    def fallbacks(self) -> tuple[EigenbasisProgram, ...]:
        """Itself in the highest precision that the call allows."""
        higher = spacing(self.ceiling) < spacing(self.precision)
        return (replace(self, precision=self.ceiling),) if higher else ()

    def empty(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        """Empty matrices, no values, and a drift of 0."""
        shape = inputs["a"].shape
        shapes = (shape, shape[:-1], shape[:1], shape[:-1])
        return tuple(torch.zeros(one, dtype=dtype) for one, dtype in zip(shapes, self.output_dtypes, strict=True))

    def seconds(self, profile: Profile) -> float:
        """Predicted device seconds a matrix: the decomposition, and products that measure the drift and the answer."""
        products = _PRODUCTS * profile.cost("gemm", self.precision, self.order)
        decomposition = profile.cost("eigh", self.precision, self.order)
        return decomposition + products + measuring_seconds(profile, self.order)


@dataclass(frozen=True, slots=True)
class _State:
    """Q0^H A Q0: its diagonal w (batch, n), and the norm of the rest relative to A, (batch,); float64."""

    w: Tensor
    drift: Tensor

    @classmethod
    def of(cls, a: Tensor, before: Tensor) -> _State:
        """The state of Q0 for Hermitian A (batch, n, n)."""
        rest = invariant.product(before.mH, invariant.product(a, before))
        w = rest.diagonal(dim1=-2, dim2=-1).real.to(torch.float64, copy=True)
        rest.diagonal(dim1=-2, dim2=-1).zero_()
        size = norm(a)
        return cls(w, torch.where(size > 0, norm(rest) / size, 0.0))


def candidates(call: Signature) -> list[EigenbasisProgram]:
    """The one program that serves a call."""
    low, ceiling = call.direct_precisions()
    tol = call.parameter("tol_drift")
    assert isinstance(tol, int | float)
    return [EigenbasisProgram(call.sizes("a")[-1], str(call.parameter("order")), float(tol), call.dtype, low, ceiling)]
