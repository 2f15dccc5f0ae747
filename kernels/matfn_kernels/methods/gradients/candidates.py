"""The programs that compute the vector-Jacobian product of each function that has one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_kernels.methods.gradients import (
    eig_clip,
    frechet_distance,
    geodesic,
    low_rank,
    power,
    singular_values,
    spectral,
    sylvester,
    triangular,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["CANDIDATES"]

CANDIDATES: Final[Mapping[str, Callable[[Signature], Sequence[Program]]]] = {
    "vjp/root": power.candidates,
    "vjp/inv_root": power.candidates,
    "vjp/sqrt_pair": power.candidates,
    "vjp/log": spectral.candidates,
    "vjp/exp": spectral.candidates,
    "vjp/power": spectral.candidates,
    "vjp/msign": singular_values.candidates,
    "vjp/mclip": singular_values.candidates,
    "vjp/solve_sylvester": sylvester.candidates,
    "vjp/solve_lyapunov": sylvester.candidates,
    "vjp/tri_inv": triangular.candidates,
    "vjp/tri_solve": triangular.candidates,
    "vjp/dplr_solve": low_rank.candidates,
    "vjp/frechet_distance": frechet_distance.candidates,
    "vjp/eig_clip": eig_clip.candidates,
    "vjp/geometric_mean": geodesic.candidates,
}
