"""The programs that compute the vector-Jacobian product of each function that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_kernels.methods.gradients import (
    eig_clip,
    eigh,
    frechet_distance,
    general,
    geodesic,
    low_rank,
    polar,
    power,
    riccati,
    singular_values,
    spectral,
    sylvester,
    triangular,
)
from matfn_kernels.methods.roots.candidates import candidates as roots
from matfn_kernels.methods.spectral.candidates import candidates as functions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["CANDIDATES"]

CANDIDATES: Final[Mapping[str, Callable[[Signature], Sequence[Program]]]] = {
    "vjp/root": general.candidates(roots, power.candidates),
    "vjp/inv_root": general.candidates(roots, power.candidates),
    "vjp/sqrt_pair": general.candidates(roots, power.candidates),
    "vjp/log": general.candidates(functions, spectral.candidates),
    "vjp/exp": general.candidates(functions, spectral.candidates),
    "vjp/power": general.candidates(functions, spectral.candidates),
    "vjp/msign": singular_values.candidates,
    "vjp/mclip": singular_values.candidates,
    "vjp/polar": polar.candidates,
    "vjp/solve_sylvester": sylvester.candidates,
    "vjp/solve_lyapunov": sylvester.candidates,
    "vjp/solve_discrete_lyapunov": sylvester.discrete,
    "vjp/solve_care": riccati.candidates,
    "vjp/solve_dare": riccati.candidates,
    "vjp/tri_inv": triangular.candidates,
    "vjp/tri_solve": triangular.candidates,
    "vjp/dplr_solve": low_rank.candidates,
    "vjp/frechet_distance": frechet_distance.candidates,
    "vjp/eig_clip": eig_clip.candidates,
    "vjp/eigh": eigh.candidates,
    "vjp/geometric_mean": geodesic.candidates,
}
