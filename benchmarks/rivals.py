"""Who computes what in the function benchmark: matfn's own evaluation, and what else a user would write.

`whole` rivals get the whole batch in one process that may use every core, as a plain call in a notebook does; the
others run in one single-threaded process a core, each with its share of the batch, as matfn's service does.
"""

from __future__ import annotations

import importlib.util
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
import scipy.linalg
import torch

from matfn_kernels import Limits, batch_of, evaluate, make_plan, parse_call, screen

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from function_cases import Array, Case
    from matfn_kernels import Profile

__all__ = ["MATFN", "RIVALS", "Rival", "rivals_of", "runner"]

_LIMITS: Final = Limits(max_order=8192, max_items=4096, max_elements=1 << 30)
_NAMES: Final = {
    "inv_root": ("a",),
    "msign": ("m",),
    "mclip": ("m",),
    "tri_inv": ("t",),
    "dplr_solve": ("diag", "q", "k", "b"),
}
_MUON: Final = (3.4445, -4.7750, 2.0315)
_POLAR_EXPRESS: Final = (
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
    (2.300652019954817, -1.6689039845747493, 0.4188073119525673),
    (1.891301407787398, -1.2679958271945868, 0.37680408948524835),
    (1.8750014808534479, -1.2500016453999487, 0.3750001645474248),
    (1.875, -1.25, 0.375),
)
"""arXiv 2505.16932, the published eight steps for singular values from 1e-3 up."""
_NEWTON_STEPS: Final = 60
_NEWTON_TOLERANCE: Final = 1e-6


@dataclass(frozen=True, slots=True)
class Rival:
    """One way to do some tasks.

    Attributes:
        name: in tables.
        tasks: what it can do.
        whole: whether one process has all cores.
        make: from a case, the inputs of a process and the profile, the work to be timed.
    """

    name: str
    tasks: tuple[str, ...]
    whole: bool
    make: Callable[[Case, Sequence[Array], Profile], Callable[[], object]]


def _matfn(**options: object) -> Callable[[Case, Sequence[Array], Profile], Callable[[], object]]:
    def make(case: Case, given: Sequence[Array], profile: Profile) -> Callable[[], object]:
        named = {name: torch.from_numpy(x) for name, x in zip(_NAMES[case.task], given, strict=True)}
        parameters: dict[str, object] = {"inv_root": {"r": case.r}, "mclip": {"hi": 0.5}}.get(case.task, {})  # type: ignore[assignment]
        call = screen(parse_call(case.task, named, parameters, options, _LIMITS))
        plan, batch = make_plan(call, profile), batch_of(call)
        return lambda: evaluate(plan.program, batch, plan.backends).outputs[0]

    return make


def _torch(work: Callable[..., Tensor]) -> Callable[[Case, Sequence[Array], Profile], Callable[[], object]]:
    def make(case: Case, given: Sequence[Array], profile: Profile) -> Callable[[], object]:
        del profile
        tensors = [torch.from_numpy(x) for x in given]
        return lambda: work(case, *tensors)

    return make


def _numpy(work: Callable[..., Array]) -> Callable[[Case, Sequence[Array], Profile], Callable[[], object]]:
    def make(case: Case, given: Sequence[Array], profile: Profile) -> Callable[[], object]:
        del profile
        return lambda: work(case, *given)

    return make


def _by_eigh(case: Case, a: Tensor) -> Tensor:
    w, v = torch.linalg.eigh(a)
    root: Tensor = (v * w.clamp_min(w[:, -1:] * 1e-12).pow(-1 / case.r)[:, None, :]) @ v.mT
    return root


def _by_eigh_double(case: Case, a: Tensor) -> Tensor:
    return _by_eigh(case, a.double()).float()


def _by_svd(case: Case, m: Tensor) -> Tensor:
    u, s, vh = torch.linalg.svd(m, full_matrices=False)
    kept = torch.ones_like(s) if case.task == "msign" else s.clamp_max(0.5)
    image: Tensor = (u * kept[:, None, :]) @ vh
    return image


def _coupled_newton(case: Case, a: Tensor) -> Tensor:
    """Guo and Higham's coupled iteration with Taylor coefficients, as in Shampoo's distributed preconditioners."""
    identity = torch.eye(case.rows).expand_as(a)
    size = torch.linalg.matrix_norm(a)[:, None, None]
    z = (1 + case.r) / (2 * size)
    x, m = z.pow(1 / case.r) * identity, z * a
    for _ in range(_NEWTON_STEPS):
        w = ((case.r + 1) * identity - m) / case.r
        x, m = x @ w, torch.linalg.matrix_power(w, case.r) @ m
        if float((m - identity).abs().amax()) < _NEWTON_TOLERANCE:
            break
    return x


def _newton_schulz(m: Tensor, rows: Sequence[tuple[float, float, float]], dtype: torch.dtype) -> Tensor:
    wide = m.shape[-2] < m.shape[-1]
    x = (m.mT if wide else m).to(dtype)
    x = x / (torch.linalg.matrix_norm(x)[:, None, None] * 1.01 + 1e-7)
    for a, b, c in rows:
        gram = x.mT @ x
        x = a * x + x @ (b * gram + c * gram @ gram)
    return (x.mT if wide else x).float()


def _muon(case: Case, m: Tensor) -> Tensor:
    del case
    return _newton_schulz(m, (_MUON,) * 5, torch.bfloat16)


def _polar_express(case: Case, m: Tensor) -> Tensor:
    del case
    return _newton_schulz(m, _POLAR_EXPRESS, torch.float32)


def _solve_identity(case: Case, t: Tensor) -> Tensor:
    del case
    return torch.linalg.solve_triangular(t, torch.eye(t.shape[-1]).expand_as(t), upper=False)


def _formed(case: Case, diag: Tensor, q: Tensor, k: Tensor, b: Tensor) -> Tensor:
    del case
    return torch.linalg.solve_triangular((q @ k.mT).tril(-1) + torch.diag_embed(diag), b, upper=False)


def _scipy(case: Case, x: Array) -> Array:
    if case.task == "tri_inv":
        return np.stack([scipy.linalg.solve_triangular(t, np.eye(len(t), dtype=t.dtype), lower=True) for t in x])
    if case.task == "msign":
        return np.stack([scipy.linalg.polar(m)[0] for m in x])
    return np.stack([scipy.linalg.fractional_matrix_power(a, -1 / case.r).real for a in x])


def _jax_qdwh(case: Case, given: Sequence[Array], profile: Profile) -> Callable[[], object]:
    del case, profile
    import jax

    polar = jax.jit(jax.vmap(lambda m: jax.lax.linalg.qdwh(m)[0]))
    return lambda: np.asarray(polar(given[0]))


def _jax_triangular(case: Case, given: Sequence[Array], profile: Profile) -> Callable[[], object]:
    del case, profile
    import jax

    identity = np.eye(given[0].shape[-1], dtype=given[0].dtype)
    solve = jax.jit(jax.vmap(lambda t: jax.scipy.linalg.solve_triangular(t, identity, lower=True)))
    return lambda: np.asarray(solve(given[0]))


MATFN: Final = Rival("matfn", tuple(_NAMES), whole=False, make=_matfn())
RIVALS: Final = (
    MATFN,
    Rival("matfn, tol 1e-3", ("inv_root", "msign", "mclip"), whole=False, make=_matfn(tol=1e-3)),
    Rival("matfn, tol 0.2", ("msign",), whole=False, make=_matfn(tol=0.2)),
    Rival("torch eigh fp32", ("inv_root",), whole=True, make=_torch(_by_eigh)),
    Rival("torch eigh fp32, one matrix a core", ("inv_root",), whole=False, make=_torch(_by_eigh)),
    Rival("torch eigh fp64, one matrix a core", ("inv_root",), whole=False, make=_torch(_by_eigh_double)),
    Rival("coupled Newton fp32", ("inv_root",), whole=True, make=_torch(_coupled_newton)),
    Rival("torch svd fp32", ("msign", "mclip"), whole=True, make=_torch(_by_svd)),
    Rival("torch svd fp32, one matrix a core", ("msign", "mclip"), whole=False, make=_torch(_by_svd)),
    Rival("Polar Express fp32, 8 steps", ("msign",), whole=True, make=_torch(_polar_express)),
    Rival("Muon's five steps bf16", ("msign",), whole=True, make=_torch(_muon)),
    Rival("torch solve_triangular(T, I)", ("tri_inv",), whole=True, make=_torch(_solve_identity)),
    Rival("torch T formed and solved", ("dplr_solve",), whole=True, make=_torch(_formed)),
    Rival("scipy", ("tri_inv", "msign"), whole=True, make=_numpy(_scipy)),
    *(
        [
            Rival("jax qdwh fp32", ("msign",), whole=True, make=_jax_qdwh),
            Rival("jax solve_triangular(T, I)", ("tri_inv",), whole=True, make=_jax_triangular),
        ]
        if importlib.util.find_spec("jax") is not None
        else []
    ),
)


def rivals_of(case: Case) -> list[Rival]:
    """Those that can do a case."""
    return [rival for rival in RIVALS if case.task in rival.tasks]


def runner(name: str, case: Case, given: Sequence[Array], profile: Profile) -> Callable[[], object]:
    """The work of a rival on a process's share of a batch."""
    (rival,) = (rival for rival in RIVALS if rival.name == name)
    assert math.prod(given[0].shape)
    return rival.make(case, given, profile)
