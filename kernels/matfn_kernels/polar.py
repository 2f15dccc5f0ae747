"""Polar factor U V^H and singular-value clipping U clip(S, lo, hi) V^H of matrices of any shape and rank.

Three methods give the same answers on tall M (a wide one is transposed, exactly):

* `svd`: the singular value decomposition;
* `gram`: M h(M^H M) with h from eigh of the Gram matrix in float64. Squaring costs half the digits, which float64 has
  to spare for inputs of single precision or less;
* `newton_schulz`: X <- X (a I + b X^H X + c (X^H X)^2) with the minimax schedule for singular values in [1e-7, 1].
  Clipping uses the H-form: with O the polar factor, H = sym(O^H M) and S_t = sign(H - t I),
  O ((lo + hi) I + (H - lo I) S_lo - (H - hi I) S_hi) / 2. It costs one more polar iteration of order n a bound and
  keeps the conditioning linear in sigma_max / hi, where forms in M^H M square it.

Singular values at or below 8 eps sigma_max are noise: the polar factor is 0 there and `lo` does not lift them. The
iteration would lift rounding noise to 1, so it answers only for matrices that a Cholesky factorisation of
H - threshold I proves to have none; others are handed on by an infinite error estimate.
References: kexue.fm/archives/10922, 10996, 11006, 11059; Amsel et al., arXiv 2505.16932.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import torch

from matfn_kernels import probes
from matfn_kernels.coefficients import safe, schedule, taylor_step
from matfn_kernels.engine import plain, tiles
from matfn_kernels.findings import Findings
from matfn_kernels.precision import Precision, spacing, working
from matfn_kernels.products import add_diagonal, symmetrise
from matfn_kernels.spectral import BACKWARD_ERROR, eigh, normalise, propagated, rescale, svd

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

__all__ = ["PolarProgram", "rows_of", "run"]

_THRESHOLD: Final = 8.0
_BOUND: Final = 1e-7
_SAFETY: Final = {Precision.BF16: 1.01, Precision.FP32: 1.001, Precision.FP64: 1.001}
_POWER_ROUNDS: Final = 5
_FIRST_BOUND: Final = 0.3

Row = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class PolarProgram:
    """What a batch of polar factors or clippings must have in common to be computed together.

    Attributes:
        rows: m.
        columns: n.
        bounds: (lo, hi) of a clipping, hi infinite where open; None for the polar factor.
        dtype: of the input and output.
        method: newton_schulz, gram or svd.
        precision: the arithmetic.
        ceiling: the arithmetic that no fallback exceeds.
        obeyed: the caller's own coefficients, to be run as they are.
    """

    rows: int
    columns: int
    bounds: tuple[float, float] | None
    dtype: torch.dtype
    method: Literal["newton_schulz", "gram", "svd"]
    precision: Precision
    ceiling: Precision
    obeyed: tuple[Row, ...] | None = None

    @property
    def small(self) -> int:
        """The smaller dimension."""
        return min(self.rows, self.columns)


def rows_of(steps: int | None, coefficients: tuple[Row, ...] | None) -> tuple[Row, ...] | None:
    """The coefficients that explicit `steps` and `coefficients` of a call mean, None where neither is given.

    Coefficients alone are run once each; with steps, cut or the last row repeated. Steps alone take the schedule of
    the widest interval that converges to 1e-2 in that many, and Taylor steps once it is used up.
    """
    if coefficients is not None:
        wanted = len(coefficients) if steps is None else steps
        return (*coefficients[:wanted], *[coefficients[-1]] * (wanted - len(coefficients)))
    if steps is None:
        return None
    bound = _FIRST_BOUND
    while bound > _BOUND and len(schedule(2, bound / 2, target=1e-2)) <= steps:
        bound /= 2
    found = safe(schedule(2, bound, target=1e-2), 2, 1.001)[:steps]
    return (*found, *[taylor_step(2)] * (steps - len(found)))


def run(program: PolarProgram, inputs: Mapping[str, Tensor]) -> Findings:
    """Computes a batch: input m (batch, m, n)."""
    wide = program.rows < program.columns
    m = inputs["m"].to(working(_at_least_single(program.precision), program.dtype))
    scaled, exponent = normalise(m.mH if wide else m)
    findings = {"svd": _by_svd, "gram": _by_gram, "newton_schulz": _by_iteration}[program.method](
        program, scaled.contiguous(), exponent
    )
    value = findings.outputs[0]
    if program.bounds is not None:
        value = rescale(value, exponent)
    return _with_output(findings, (value.mH if wide else value).to(program.dtype).contiguous())


def _with_output(findings: Findings, value: Tensor) -> Findings:
    eps = torch.finfo(value.dtype).eps
    return Findings(
        outputs=(value,),
        residual_name=findings.residual_name,
        residual=findings.residual,
        error=findings.error + eps / 2,
        condition=findings.condition,
        steps=findings.steps,
        rank=findings.rank,
    )


def _at_least_single(precision: Precision) -> Precision:
    """Scaling and certificates of a bf16 iteration are kept in fp32."""
    return Precision.FP32 if precision is Precision.BF16 else precision


def _threshold(program: PolarProgram) -> float:
    return _THRESHOLD * torch.finfo(program.dtype).eps


def _bounds(program: PolarProgram, exponent: Tensor) -> tuple[Tensor, Tensor]:
    """(lo, hi) in units of the scaled matrices, (batch, 1) each."""
    assert program.bounds is not None
    scale = torch.exp2(-exponent.to(torch.float64))[:, None]
    return program.bounds[0] * scale, program.bounds[1] * scale


@dataclass(frozen=True, slots=True)
class _Multiplier:
    """f(sigma) / sigma for the polar factor (f = 1) or a clipping, the numerical range held fixed."""

    keep: Tensor
    bounds: tuple[Tensor, Tensor] | None

    def __call__(self, sigma: Tensor) -> Tensor:
        sigma = sigma.clamp_min(torch.finfo(torch.float64).tiny)
        if self.bounds is None:
            return torch.where(self.keep, 1 / sigma, 0.0)
        lo, hi = self.bounds
        clipped = torch.minimum(torch.where(self.keep, torch.maximum(sigma, lo), sigma), hi)
        return torch.where(clipped == sigma, 1.0, clipped / sigma)


def _multiplier(program: PolarProgram, sigma: Tensor, exponent: Tensor) -> _Multiplier:
    keep = sigma > _threshold(program) * sigma.amax(-1, keepdim=True)
    return _Multiplier(keep, None if program.bounds is None else _bounds(program, exponent))


def _by_svd(program: PolarProgram, m: Tensor, exponent: Tensor) -> Findings:
    u, values, vh = svd(m)
    sigma = values.to(torch.float64)
    multiplier = _multiplier(program, sigma, exponent)
    new = multiplier(sigma) * sigma
    value = (u * new[:, None, :].to(u.dtype)) @ vh
    noise = BACKWARD_ERROR * spacing(program.precision) * sigma[:, 0]
    lifted = torch.where(new > sigma, multiplier(sigma), torch.ones_like(sigma))
    polar = torch.where(multiplier.keep, 1 / sigma.clamp_min(torch.finfo(torch.float64).tiny), 0.0)
    amplified = polar if program.bounds is None else lifted
    return _direct(program, m, value, sigma, multiplier, 4 * noise * amplified.square().mean(-1).sqrt())


def _by_gram(program: PolarProgram, m: Tensor, exponent: Tensor) -> Findings:
    values, vectors = eigh(m.mH @ m)
    sigma = values.to(torch.float64).clamp_min(0).sqrt()
    multiplier = _multiplier(program, sigma, exponent)
    h = multiplier(sigma)
    value = m @ ((vectors * h[:, None, :].to(vectors.dtype)) @ vectors.mH)
    noise = BACKWARD_ERROR * spacing(program.precision) * sigma[:, -1].square()
    error = propagated(values.to(torch.float64), lambda squared: multiplier(squared.clamp_min(0).sqrt()), noise, sigma)
    return _direct(program, m, value, sigma, multiplier, error)


def _direct(
    program: PolarProgram,
    m: Tensor,
    value: Tensor,
    sigma: Tensor,
    multiplier: _Multiplier,
    error: Tensor,
) -> Findings:
    new = multiplier(sigma) * sigma
    size = torch.linalg.vector_norm(new, dim=-1)
    relative = torch.where(size > 0, error / size, torch.zeros_like(size))
    rank = multiplier.keep.sum(-1)
    return Findings(
        outputs=(value,),
        residual_name=_residual_name(program),
        residual=_residual(program, m, value),
        error=relative + BACKWARD_ERROR * spacing(program.precision),
        condition=torch.where(size > 0, _sensitivity(program, sigma, new, multiplier.keep), torch.ones_like(size)),
        rank=rank,
    )


def _sensitivity(program: PolarProgram, sigma: Tensor, new: Tensor, keep: Tensor) -> Tensor:
    """sigma_max / sigma_min of the range, or for a clipping ||M|| / ||C|| times the largest lift."""
    if program.bounds is None:
        return sigma.amax(-1) / torch.where(keep, sigma, math.inf).amin(-1)
    lift = torch.where(keep, new / sigma.clamp_min(torch.finfo(torch.float64).tiny), 1.0).amax(-1).clamp_min(1.0)
    shrunk: Tensor = torch.linalg.vector_norm(sigma, dim=-1) / torch.linalg.vector_norm(new, dim=-1)
    return (lift * shrunk).clamp_min(1.0)


def _residual_name(program: PolarProgram) -> str:
    return "M - O sym(O^H M)" if program.bounds is None else "skew(X^H M)"


def _residual(program: PolarProgram, m: Tensor, value: Tensor) -> Tensor:
    """Distance from the equation that the polar factor (or any odd function of the singular values) satisfies."""
    z = probes.gaussian(m, m.shape[-1]).to(m.dtype)
    mz = m @ z
    forward = value.mH @ mz
    backward = m.mH @ (value @ z)
    difference = mz - value @ (forward + backward) / 2 if program.bounds is None else (forward - backward) / 2
    reference = mz if program.bounds is None else forward
    size = probes.column_norm(reference)
    return torch.where(size > 0, probes.column_norm(difference) / size, torch.zeros_like(size)).to(torch.float64)


# --- Newton-Schulz ---------------------------------------------------------------------------------------------------


def _by_iteration(program: PolarProgram, m: Tensor, exponent: Tensor) -> Findings:
    size = torch.linalg.matrix_norm(m)
    x = m / torch.where(size > 0, size, torch.ones_like(size))[:, None, None]
    rows = program.obeyed or _universal(program.precision)
    narrow = x.to(working(program.precision, program.dtype))
    order = max(program.rows, program.columns)
    o = torch.cat([plain(narrow[t], rows) for t in tiles(len(x), order, narrow.itemsize)]).to(x.dtype)
    if program.obeyed is not None:
        return _obeyed(program, o, len(rows))
    h = symmetrise(o.to(torch.float64).mH @ x.to(torch.float64))
    proof = _proof(program, o, h)
    error = proof.error
    value, steps = o, len(rows)
    if program.bounds is not None:
        lo, hi = (bound.to(torch.float64) / size[:, None] for bound in _bounds(program, exponent))
        clipped, signs = _clip(h, lo, hi)
        value = (o.to(torch.float64) @ clipped) * size.to(torch.float64)[:, None, None]
        steps += signs
        error = error + _clip_error(program, clipped, h)
    return Findings(
        outputs=(value,),
        residual_name=_residual_name(program),
        residual=_residual(program, m, value.to(m.dtype)),
        error=error,
        condition=proof.condition,
        steps=steps,
        rank=torch.where(proof.definite, program.small, -1),
    )


def _universal(precision: Precision) -> tuple[Row, ...]:
    return safe(schedule(2, _BOUND, target=spacing(precision) / 4), 2, _SAFETY[precision])


@dataclass(frozen=True, slots=True)
class _Proof:
    error: Tensor
    condition: Tensor
    definite: Tensor


def _proof(program: PolarProgram, o: Tensor, h: Tensor) -> _Proof:
    """Full numerical rank by Cholesky of H - floor I, the condition by power iteration, orthogonality on columns."""
    order = h.shape[-1]
    floor = max(2 * _threshold(program), 10 * _BOUND)
    factor, info = torch.linalg.cholesky_ex(add_diagonal(h.clone(), -floor))
    definite = info == 0
    factor = torch.where(definite[:, None, None], factor, torch.eye(order, dtype=factor.dtype, device=h.device))
    z = probes.gaussian(h, order)
    smallest = floor + 1 / probes.growth(lambda y: torch.cholesky_solve(y, factor), z, _POWER_ROUNDS)
    condition = probes.growth(lambda y: h @ y, z, _POWER_ROUNDS) / smallest
    wide = o.to(torch.float64)
    gap = probes.column_norm(wide.mH @ (wide @ z) - z) / probes.column_norm(z)
    law = spacing(program.precision) * (20 + 0.3 * condition)
    trusted = definite & torch.isfinite(gap)
    return _Proof(torch.where(trusted, torch.maximum(law, gap), math.inf), condition, definite)


def _obeyed(program: PolarProgram, o: Tensor, steps: int) -> Findings:
    """The caller's own iteration: its distance from orthogonality bounds the error of a full-rank matrix."""
    wide = o.to(torch.float64)
    gram = wide.mH @ wide
    gap = torch.linalg.matrix_norm(add_diagonal(gram, -1.0)) / program.small**0.5
    return Findings(
        outputs=(o,),
        residual_name="O^H O - I",
        residual=gap,
        error=torch.where(torch.isfinite(gap), gap + 20 * spacing(program.precision), math.inf),
        condition=torch.full_like(gap, math.nan),
        steps=steps,
    )


def _clip(h: Tensor, lo: Tensor, hi: Tensor) -> tuple[Tensor, int]:
    """Eigenvalues of H (batch, n, n) >= 0 clipped to [lo, hi], and the steps it took."""
    rows = _universal(Precision.FP64)
    open_above = ~torch.isfinite(hi)
    top = torch.where(open_above, torch.linalg.matrix_norm(h)[:, None] * 2, hi)
    below, above = _shifted(h, lo), _shifted(h, top)
    total = (lo + top)[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)
    total = total + below @ _sign(below, rows) - above @ _sign(above, rows)
    return symmetrise(total / 2), 2 * len(rows)


def _shifted(h: Tensor, value: Tensor) -> Tensor:
    return h - value[:, :, None] * torch.eye(h.shape[-1], dtype=h.dtype, device=h.device)


def _sign(h: Tensor, rows: tuple[Row, ...]) -> Tensor:
    size = torch.linalg.matrix_norm(h).clamp_min(torch.finfo(h.dtype).tiny)
    return symmetrise(plain(h / size[:, None, None], rows))


def _clip_error(program: PolarProgram, clipped: Tensor, h: Tensor) -> Tensor:
    """What singular values too near a bound to be resolved leave behind, and the products' rounding."""
    size = torch.linalg.matrix_norm(clipped)
    scale = torch.linalg.matrix_norm(h) * (_BOUND + BACKWARD_ERROR * spacing(program.precision))
    return torch.where(size > 0, scale / size, torch.zeros_like(size))
