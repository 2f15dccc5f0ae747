"""No certificate calls an answer converged whose true error is above its estimate, whatever the libraries return."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from carex import CAREX
from evaluating import answer, candidates, run
from lying_libraries import LIES, ROUTINES, listening, lying
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.methods.equations import newton_kleinman
from spectra import orthogonal, positive, rectangular

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from numpy.typing import NDArray

    from evaluating import Answer
    from lying_libraries import Lie
    from matfn_kernels.programs.program import Program
    from matfn_kernels.programs.validation import Call

N = 12
_RICCATI = ("aircraft", "double root 0.0001", "weak input 1e-06", "nearly singular weight 0.001", "small weight 0.001")


@dataclass(frozen=True)
class Case:
    """A call whose answer is known from honest libraries in double precision."""

    function: str
    inputs: dict[str, Any]
    keywords: dict[str, Any]
    note: str = ""

    def __str__(self) -> str:
        return "-".join(filter(None, (self.function, self.note)))

    def sent(self, dtype: str) -> dict[str, NDArray[Any]]:
        """The inputs in a dtype, complex ones in the complex dtype of that precision."""
        wide = {"float32": np.complex64, "float64": np.complex128}[dtype]
        return {name: x.astype(wide if np.iscomplexobj(x) else dtype) for name, x in self.inputs.items()}


def _rng() -> np.random.Generator:
    return np.random.default_rng(3)


def _general(order: int = N) -> Any:
    return _rng().standard_normal((order, order)) / 4 + 2 * np.eye(order)


def _symmetric(values: Any) -> Any:
    q = orthogonal(_rng(), len(values), len(values))
    a = (q * values) @ q.T
    return (a + a.T) / 2


def _powers() -> list[Case]:
    a, wide = positive(N)[0], positive(N, condition=1e4)[0]
    g = _rng().standard_normal((3, N))
    low = _rng().integers(-4, 5, (N, 5)).astype(float)
    hermitian = positive(N, is_complex=True)[0]
    general = {"structure": "general"}
    return [
        Case("root", {"a": a}, {"r": 2}),
        Case("root", {"a": wide}, {"r": 3, "s": 2}, "of condition 1e4"),
        Case("root", {"a": hermitian}, {"r": 2}, "of Hermitian"),
        Case("inv_root", {"a": a}, {"r": 4, "damping": 0}),
        Case("inv_root", {"a": wide}, {"r": 2, "shift": 1e-3}, "shifted"),
        Case("inv_root", {"a": a, "g": g}, {"r": 2, "damping": 0}, "of few rows"),
        Case("inv_root", {"a": low @ low.T}, {"r": 2, "damping": "range"}, "on the range"),
        Case("sqrt_pair", {"a": a}, {"damping": 0}),
        Case("inv_root", {"a": a}, {"r": 2, "damping": 0, "precision": "fp32"}, "in single precision"),
        Case("inv_root", {"a": a}, {"r": 2, "damping": 0.0, "tol": 1e-3}, "loose"),
        Case("root", {"a": _general()}, {"r": 2, **general}, "general"),
        Case("inv_root", {"a": _general()}, {"r": 3, "damping": 0, **general}, "general"),
        Case("sqrt_pair", {"a": _general()}, {"damping": 0, **general}, "general"),
        Case("root", {"a": _general() + 0.3j * _general()[::-1]}, {"r": 2, **general}, "complex general"),
        Case("root", {"a": _semisimple()}, {"r": 2, **general}, "general of low rank"),
        Case("root", {"a": _turned_by(3.0)}, {"r": 2, **general}, "general near the negative axis"),
        Case("root", {"a": _similar(np.geomspace(1e-12, 1, N))}, {"r": 2, **general}, "general near singular"),
    ]


def _semisimple() -> Any:
    """Small whole numbers of rank 4, whose eigenvalue 0 has as many eigenvectors as its multiplicity."""
    low = _rng().integers(-3, 4, (8, 4)).astype(float)
    skew = np.triu(np.ones((4, 4)), 1)
    return low @ (3 * np.eye(4) + skew - skew.T) @ low.T


def _similar(values: Any) -> Any:
    """A matrix that is not normal, with these eigenvalues."""
    x = np.eye(len(values)) + _rng().standard_normal((len(values),) * 2) / 8
    return x @ np.diag(values) @ np.linalg.inv(x)


def _turned_by(angle: float) -> Any:
    """A matrix with an eigenvalue of that angle and the others at 1 to 2."""
    a = np.diag(np.linspace(1, 2, N))
    a[:2, :2] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    q = orthogonal(_rng(), N, N)
    return q @ a @ q.T


def _polar() -> list[Case]:
    m, wide = rectangular((16, N), condition=50)[0], rectangular((8, N), condition=1e3)[0]
    return [
        Case("msign", {"m": m}, {}),
        Case("msign", {"m": wide}, {}, "wide"),
        Case("msign", {"m": m + 1j * m[::-1]}, {}, "complex"),
        Case("mclip", {"m": m}, {"hi": 0.3}),
        Case("mclip", {"m": wide}, {"hi": 0.5, "lo": 0.1}, "wide"),
        Case("msign", {"m": m}, {"precision": "fp32"}, "in single precision"),
        Case("polar", {"m": m}, {}),
    ]


def _equations() -> list[Case]:
    a, q = _general(), _rng().standard_normal((N, N))
    return [
        Case("mcsgn", {"a": a - 2 * np.eye(N)}, {}),
        Case("spectral_projector", {"a": a - 2 * np.eye(N)}, {}),
        Case("mcsgn", {"a": _symmetric(np.r_[np.linspace(-2, -1e-3, 6), np.linspace(1e-3, 2, 6)])}, {}, "near axis"),
        Case("solve_sylvester", {"a": a, "b": _general(9), "q": q[:, :9]}, {}),
        Case("solve_sylvester", {"a": positive(N)[0], "b": positive(9)[0], "q": q[:, :9]}, {}, "symmetric"),
        Case("solve_lyapunov", {"a": a, "q": q}, {}),
        Case("solve_care", {"a": q / 4, "b": q[:, :4], "q": np.eye(N), "r": np.eye(4)}, {}),
        *(Case("solve_care", dict(zip("abqr", CAREX[name], strict=True)), {}, name) for name in _RICCATI),
    ]


def _triangles() -> list[Case]:
    t, q = np.tril(_general()), _rng().standard_normal((N, N))
    diag, left, right = np.linspace(1, 2, N), q[:, :2] / 2, q[:, 2:4] / 2
    keys = q[:, :3] / np.linalg.norm(q[:, :3], axis=1, keepdims=True)
    return [
        Case("tri_inv", {"t": t}, {}),
        Case("tri_inv", {"t": np.triu(_general(40))}, {"lower": False}, "upper"),
        Case("tri_solve", {"t": t, "b": q[:, :3]}, {}),
        Case("tri_solve", {"t": t, "b": q[:, :1]}, {"transpose": True}, "transposed"),
        Case("dplr_inv", {"diag": diag, "q": left, "k": right}, {}),
        Case("dplr_solve", {"diag": diag, "q": left, "k": right, "b": q[:, :3]}, {}),
        Case("delta_rule", {"q": q[:, 3:6], "k": keys, "v": q[:, 6:]}, {}),
    ]


def _hermitian() -> list[Case]:
    a, b = positive(N)[0], positive(N, condition=10, seed=1)[0]
    mean = _rng().standard_normal(N)
    indefinite = _symmetric(np.linspace(-1, 1.5, N))
    return [
        Case("log", {"a": a}, {"damping": 0.0}),
        Case("log", {"a": a}, {"precision": "fp32"}, "in single precision"),
        Case("exp", {"a": indefinite}, {"t": 2.0}),
        Case("exp", {"a": indefinite}, {"precision": "fp32"}, "in single precision"),
        Case("power", {"a": a}, {"p": -0.7, "damping": 0.0}),
        Case("power", {"a": a, "g": b[:3]}, {"p": 0.7}, "of few rows"),
        Case("power", {"a": indefinite}, {"p": -3}, "of indefinite"),
        Case("power", {"a": indefinite}, {"p": 1}, "the first"),
        Case("eig_clip", {"a": indefinite}, {"lo": 0.0}),
        Case("eig_clip", {"a": a}, {"lo": 0.0}, "nothing to clip"),
        Case("eig_clip", {"a": a}, {"hi": 0.5}, "from above"),
        Case("eig_clip", {"a": indefinite}, {"lo": 0.0, "precision": "fp32"}, "in single precision"),
        Case("frechet_distance", {"mu1": mean, "s1": a, "mu2": mean[::-1].copy(), "s2": b}, {}),
        Case("frechet_distance", {"mu1": mean, "s1": a, "mu2": mean, "s2": b}, {}, "of covariances"),
        Case("geometric_mean", {"a": a, "b": b}, {}),
        Case("qk_clip", {"w_q": a[None], "w_k": b[None], "max_logit": np.array([200.0])}, {}),
        Case("max_logit", {"q": a[None], "k": b[None]}, {}),
    ]


CASES = [*_powers(), *_polar(), *_equations(), *_triangles(), *_hermitian()]


def violations(case: Case, dtype: str, lies: Sequence[Lie] = LIES) -> list[str]:
    """Programs and lies by which a certificate of the call says less than the truth."""
    sent = case.sent(dtype)
    wide = {name: x.astype(np.result_type(x, float)) for name, x in sent.items()}
    exact = answer(case.function, wide, **{k: v for k, v in case.keywords.items() if k not in {"precision", "tol"}})
    found = []
    for program, compute in _computations(case, sent).items():
        with listening() as liar:
            honest = compute()
        assert _understated(case, wide, honest, exact) is None, program
        for lie in lies:
            if lie.routine in liar.called:
                with lying(lie):
                    told = _answered(compute)
                said = None if told is None else _understated(case, wide, told, exact)
                found += [] if said is None else [f"{_named(program)}, {lie}: {said}"]
    return found


def _computations(case: Case, sent: dict[str, Any]) -> dict[Program, Callable[[], Answer]]:
    """Every program that the planner considers for the call, and for the call that names one of its methods."""
    asked: dict[Program, Call] = {}
    for options in ({}, *({"method": method} for method in FUNCTIONS[case.function].methods)):
        with suppress(Rejection):  # a method that does not serve the call
            asked |= dict(candidates(case.function, sent, **options, **case.keywords))
    return {program: partial(run, program, call) for program, call in asked.items() if not _is_twin(program, asked)}


def _is_twin(program: Program, asked: Iterable[Program]) -> bool:
    """Whether it was asked for by name and does what a program without fallbacks does that is asked anyway."""
    return any(
        getattr(program, "pinned", False) and replace(program, pinned=False) == other and not other.fallbacks()  # type: ignore[type-var]
        for other in asked
    )


def _named(program: Program) -> str:
    """Method, precision, kernels, and whether the method was asked for by name."""
    kernel, pinned = getattr(program, "kernel", ""), getattr(program, "pinned", False)
    return " ".join(filter(None, (program.method, program.precision, str(kernel), "pinned" if pinned else "")))


def _answered(compute: Callable[[], Answer]) -> Answer | None:
    """The answer, or None if the call is refused or has none."""
    try:
        return compute()
    except Rejection:
        return None


def _understated(case: Case, wide: dict[str, Any], found: Answer, exact: Answer) -> str | None:
    """What a certificate says where that is less than the error; None if it is honest."""
    certificate, reference = found.certificates[0], exact.certificates[0]
    if certificate.error_estimate is None:
        return None
    assert reference.error_estimate is not None
    error = max(_distance(case, wide, *pair) for pair in zip(found.outputs, exact.outputs, strict=True))
    if error <= certificate.error_estimate + reference.error_estimate:
        return None
    return f"{certificate.outcome}, error {error:.1e}, estimate {certificate.error_estimate:.1e}"


def _distance(case: Case, wide: dict[str, Any], x: Any, y: Any) -> float:
    """The relative error; that of a distance is relative to the terms of which it is the sum."""
    size = np.linalg.norm(y)
    if case.function == "frechet_distance":
        size = np.sum((wide["mu1"] - wide["mu2"]) ** 2) + np.trace(wide["s1"]) + np.trace(wide["s2"])
    return float(np.linalg.norm(x.astype(y.dtype) - y) / size)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_a_lie_is_not_certified(case: Case, dtype: str) -> None:
    """A routine that returns finite garbage with success leaves no converged answer with a larger error."""
    assert not violations(case, dtype)


@pytest.mark.parametrize("lie", [lie for lie in LIES if lie.routine == "scipy.solve_continuous_are"], ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_lie_in_the_last_resort_is_not_certified(monkeypatch: pytest.MonkeyPatch, dtype: str, lie: Lie) -> None:
    """Where no other route finds a solution, a false one of the last is noticed."""
    for route in ("doubling", "_by_schur"):
        monkeypatch.setattr(newton_kleinman, route, lambda _: None)

    for case in (case for case in CASES if case.function == "solve_care"):
        assert not violations(case, dtype, [lie])


def _on_the_axis() -> Any:
    """Small whole numbers with the eigenvalues i and -i."""
    a = np.triu(np.ones((N, N)))
    a[:2, :2] = [[0, -1], [1, 0]]
    return a


REFUSED = [
    Case("root", {"a": -positive(N)[0]}, {"r": 2}, "of negative"),
    Case("inv_root", {"a": _symmetric(np.r_[-0.5, np.linspace(0.1, 1, N - 1)])}, {"r": 2}, "of indefinite"),
    Case("sqrt_pair", {"a": np.zeros((N, N))}, {}, "of zero"),
    Case(
        "root", {"a": _similar(np.r_[-0.5, np.linspace(0.1, 1, N - 1)])}, {"r": 2, "structure": "general"}, "negative"
    ),
    Case("inv_root", {"a": _semisimple()}, {"r": 2, "damping": 0, "structure": "general"}, "singular"),
    Case("log", {"a": -positive(N)[0]}, {}, "of negative"),
    Case("power", {"a": positive(N)[0] * 0}, {"p": -1}, "of zero"),
    Case("exp", {"a": 1e4 * positive(N)[0]}, {}, "out of range"),
    Case("mcsgn", {"a": _on_the_axis()}, {}, "on the axis"),
    Case("spectral_projector", {"a": _on_the_axis()}, {}, "on the axis"),
    Case("solve_lyapunov", {"a": np.diag(np.r_[-1.0, 1.0, np.ones(N - 2)]), "q": np.eye(N)}, {}, "singular"),
    Case("solve_care", dict(zip("abqr", (np.eye(2), np.zeros((2, 1)), np.eye(2), np.eye(1)), strict=True)), {}, "held"),
    Case("geometric_mean", {"a": positive(N)[0], "b": -positive(N)[0]}, {}, "of negative"),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_lie_does_not_answer_what_has_no_answer(case: Case, dtype: str) -> None:
    """A matrix that is refused by honest libraries has no converged answer by lying ones."""
    found = []
    for program, compute in _computations(case, case.sent(dtype)).items():
        with listening() as liar:
            assert not _is_converged(_answered(compute)), program
        for lie in (lie for lie in LIES if lie.routine in liar.called):
            with lying(lie):
                found += [f"{_named(program)}, {lie}"] if _is_converged(_answered(compute)) else []
    assert not found


def _is_converged(found: Answer | None) -> bool:
    return found is not None and found.certificates[0].outcome == "converged"


def test_every_routine_is_called() -> None:
    """The cases reach every routine that can lie, but for the last resort, which has its own test."""
    called: set[str] = set()
    for case, dtype in product(CASES, ("float32", "float64")):
        for compute in _computations(case, case.sent(dtype)).values():
            with listening() as liar:
                compute()
            called |= liar.called

    assert called == set(ROUTINES) - {"scipy.solve_continuous_are"}


def test_every_function_of_the_catalogue_is_asked() -> None:
    """The cases cover the catalogue."""
    assert {case.function for case in CASES} == set(FUNCTIONS)
