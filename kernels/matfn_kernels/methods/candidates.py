"""The programs that may serve each function: the one place where functions meet methods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from matfn_kernels.methods.attention import max_logit, packed, qk_clip
from matfn_kernels.methods.equations import riccati_candidates, smith, sylvester_candidates
from matfn_kernels.methods.hermitian import eig_clip, eigenbasis, eigh, frechet_distance, geodesic
from matfn_kernels.methods.polar import candidates as polar
from matfn_kernels.methods.polar import decomposition, intervals
from matfn_kernels.methods.roots import candidates as roots
from matfn_kernels.methods.sign import candidates as sign
from matfn_kernels.methods.spectral import candidates as spectral
from matfn_kernels.methods.triangular import candidates as triangular
from matfn_kernels.methods.triangular import low_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.signature import Signature

__all__ = ["CANDIDATES"]

CANDIDATES: Final[Mapping[str, Callable[[Signature], Sequence[Program]]]] = {
    "root": roots.candidates,
    "inv_root": roots.candidates,
    "sqrt_pair": roots.candidates,
    "log": spectral.candidates,
    "exp": spectral.candidates,
    "power": spectral.candidates,
    "msign": polar.candidates,
    "mclip": polar.candidates,
    "polar": decomposition.candidates,
    "norm2": intervals.candidates,
    "cond": intervals.candidates,
    "mcsgn": sign.candidates,
    "solve_sylvester": sylvester_candidates.candidates,
    "solve_lyapunov": sylvester_candidates.candidates,
    "solve_discrete_lyapunov": smith.candidates,
    "solve_care": riccati_candidates.candidates,
    "solve_dare": riccati_candidates.candidates,
    "spectral_projector": sign.candidates,
    "tri_inv": triangular.candidates,
    "tri_solve": triangular.candidates,
    "dplr_inv": low_rank.candidates,
    "dplr_solve": low_rank.candidates,
    "frechet_distance": frechet_distance.candidates,
    "eig_clip": eig_clip.candidates,
    "eigh": eigh.candidates,
    "eigenbasis": eigenbasis.candidates,
    "geometric_mean": geodesic.candidates,
    "max_logit": max_logit.candidates,
    "qk_clip": qk_clip.candidates,
    "delta_rule": packed.candidates,
}
