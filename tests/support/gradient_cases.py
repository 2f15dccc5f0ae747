"""Vector-Jacobian products at well-conditioned, repeated, graded and singular matrices, with their definitions."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import mpmath as mp
import numpy as np

from differences import clip, frechet, mean, power, singular, through_eigenvalues
from evaluating import answer
from matfn_kernels import Outcome
from spectra import orthogonal

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Array

__all__ = ["CASES", "HALF", "RNG", "Case", "cotangent", "power_case", "symmetric"]

RNG: Final = np.random.default_rng(7)


def _orthogonal(order: int) -> Array:
    return orthogonal(np.random.default_rng(order), order, order)


def symmetric(*values: float) -> Array:
    """A symmetric matrix with these eigenvalues."""
    q = _orthogonal(len(values))
    found: Array = (q * np.array(values)) @ q.T
    return found


def _of_singular_values(rows: int, columns: int, *values: float) -> Array:
    u, v = _orthogonal(rows), _orthogonal(columns)
    found: Array = (u[:, : len(values)] * np.array(values)) @ v[:, : len(values)].T
    return found


def _one(sigma: Any) -> Any:
    """The function of singular values that a polar factor is."""
    return mp.mpf(1) if sigma else sigma


def cotangent(*shape: int) -> Array:
    """Gaussian numbers of a shape."""
    return RNG.standard_normal(shape)


@dataclass(frozen=True)
class Case:
    """A call of a vector-Jacobian product, and what it differentiates in 60 digits."""

    function: str
    inputs: dict[str, Array]
    cotangents: tuple[Array | None, ...]
    keywords: dict[str, Any]
    definition: Callable[[Any], tuple[Any, ...]]
    symmetric: tuple[str, ...] = ()
    accuracy: float = 1e-12
    outcome: Outcome = Outcome.CONVERGED
    label: str = field(default="")

    def __str__(self) -> str:
        return f"{self.function}-{self.label}"


def power_case(label: str, a: Array, exponent: Any, *, g: Array | None = None, **more: Any) -> Case:
    """A case of root, or of inv_root where the exponent is negative."""
    keywords = more.pop("keywords")
    shape, rank, accuracy = more.pop("shift", 0.0), more.pop("rank", None), more.pop("accuracy", 1e-12)
    f, inverse = power(abs(exponent), shift=shape, rank=rank), power(-abs(exponent), shift=shape, rank=rank)
    chosen = inverse if exponent < 0 else f
    return Case(
        "inv_root" if exponent < 0 else "root",
        {"a": a} if g is None else {"a": a, "g": g},
        (cotangent(*(a if g is None else g).shape),),
        keywords,
        (lambda m: (chosen(m["a"]),)) if g is None else (lambda m: (m["g"] * chosen(m["a"]),)),
        ("a",),
        accuracy,
        more.pop("outcome", Outcome.CONVERGED),
        label,
    )


def _pair(label: str, a: Array, *, x: bool, y: bool) -> Case:
    root, inverse = power(mp.mpf(1) / 2), power(-mp.mpf(1) / 2)
    cotangents = (cotangent(*a.shape) if x else None, cotangent(*a.shape) if y else None)
    return Case(
        "sqrt_pair", {"a": a}, cotangents, {}, lambda m: (root(m["a"]), inverse(m["a"])), ("a",), 1e-12, label=label
    )


def _mapped(function: str, label: str, a: Array, f: Callable[[Any], Any], **more: Any) -> Case:
    """A case of a function of eigenvalues."""
    g, accuracy, mapped = more.pop("g", None), more.pop("accuracy", 1e-12), through_eigenvalues(f)
    inputs = {"a": a} if g is None else {"a": a, "g": g}
    return Case(
        function,
        inputs,
        (cotangent(*inputs["a" if g is None else "g"].shape),),
        more,
        (lambda m: (mapped(m["a"]),)) if g is None else (lambda m: (m["g"] * mapped(m["a"]),)),
        ("a",),
        accuracy,
        label=label,
    )


def _general(function: str, label: str, a: Array, f: Callable[[Any], Any], **more: Any) -> Case:
    """A case of a function of distinct eigenvalues of a matrix without symmetry."""
    g, shift, accuracy = more.pop("g", None), more.get("shift", 0.0), more.pop("accuracy", 1e-12)

    def mapped(m: Any) -> tuple[Any, ...]:
        w, v = mp.eig(m["a"])
        x = (v * mp.diag([f(value + shift) for value in w]) * v**-1).apply(mp.re)
        return (m["g"] * x if "g" in m else x,)

    inputs = {"a": a} if g is None else {"a": a, "g": g}
    cotangents = (cotangent(*inputs["a" if g is None else "g"].shape),)
    return Case(function, inputs, cotangents, {**more, "structure": "general"}, mapped, (), accuracy, label=label)


def _singular(function: str, label: str, m: Array, f: Callable[[Any], Any], **more: Any) -> Case:
    mapped = singular(f, more.pop("rank", None))
    accuracy, outcome = more.pop("accuracy", 1e-12), more.pop("outcome", Outcome.CONVERGED)
    inputs, cotangents = {"m": m}, (cotangent(*m.shape),)
    return Case(
        function, inputs, cotangents, more, lambda given: (mapped(given["m"]),), (), accuracy, outcome, label=label
    )


def _clip(label: str, a: Array, lo: float, hi: float) -> Case:
    clipped, bounds = clip(lo, hi), {"lo": lo, "hi": hi}
    keywords = {name: bound for name, bound in bounds.items() if np.isfinite(bound)}
    return Case(
        "eig_clip", {"a": a}, (cotangent(*a.shape),), keywords, lambda m: (clipped(m["a"]),), ("a",), label=label
    )


def _solution(function: str, label: str, inputs: dict[str, Array], **more: Any) -> Case:
    """A case whose answer solves equations that mpmath solves."""
    solve, shape = more.pop("solve"), inputs["b" if "b" in inputs and function != "solve_sylvester" else "q"].shape
    accuracy = more.pop("accuracy", 1e-12)
    return Case(function, inputs, (cotangent(*shape),), more, lambda m: (solve(m),), (), accuracy, label=label)


def _triangle(t: Any, *, lower: bool, unit: bool) -> Any:
    """The triangle of a matrix of mpmath that is read."""
    found = mp.zeros(t.rows, t.cols)
    for i, j in np.ndindex(t.rows, t.cols):
        if i == j:
            found[i, j] = 1 if unit else t[i, j]
        elif (j < i) is lower:
            found[i, j] = t[i, j]
    return found


def _triangular(label: str, t: Array, b: Array | None = None, **keywords: Any) -> Case:
    lower, unit = keywords.get("lower", True), keywords.get("unit_diagonal", False)

    def solve(m: Any) -> Any:
        read = _triangle(m["t"], lower=lower, unit=unit)
        inverse = (read.T if keywords.get("transpose") else read) ** -1
        return inverse if b is None else inverse * m["b"]

    if b is None:
        cotangents = (cotangent(*t.shape),)
        return Case("tri_inv", {"t": t}, cotangents, keywords, lambda m: (solve(m),), (), 1e-12, label=label)
    return _solution("tri_solve", label, {"t": t, "b": b}, solve=solve, **keywords)


def _low_rank(label: str, diag: Array, q: Array, k: Array, b: Array, **keywords: Any) -> Case:
    def solve(m: Any) -> Any:
        t = _triangle(m["q"] * m["k"].T, lower=True, unit=False)
        for i in range(t.rows):
            t[i, i] = m["diag"][i]
        return (t.T if keywords.get("transpose") else t) ** -1 * m["b"]

    return _solution("dplr_solve", label, {"diag": diag, "q": q, "k": k, "b": b}, solve=solve, **keywords)


def _kronecker(left: Any, right: Any) -> Any:
    found = mp.zeros(left.rows * right.rows, left.cols * right.cols)
    for i, j in np.ndindex(left.rows, left.cols):
        for k, l in np.ndindex(right.rows, right.cols):
            found[i * right.rows + k, j * right.cols + l] = left[i, j] * right[k, l]
    return found


def _equation(m: Any) -> Any:
    """The solution of A X + X B = Q, B = A^T if there is none, by Kronecker products."""
    a, q = m["a"], m["q"]
    b = m.get("b", a.T)
    operator = _kronecker(a, mp.eye(b.rows)) + _kronecker(mp.eye(a.rows), b.T)
    flat = mp.lu_solve(operator, mp.matrix([q[i, j] for i in range(q.rows) for j in range(q.cols)]))
    return mp.matrix([[flat[i * q.cols + j] for j in range(q.cols)] for i in range(q.rows)])


def _summed(pairs: list[tuple[Any, Any]], q: Any) -> Any:
    """X with the sum of P X S equal to Q, by Kronecker products."""
    operator = mp.zeros(q.rows * q.cols)
    for left, right in pairs:
        operator += _kronecker(left, right.T)
    flat = mp.lu_solve(operator, mp.matrix([q[i, j] for i in range(q.rows) for j in range(q.cols)]))
    return mp.matrix([[flat[i * q.cols + j] for j in range(q.cols)] for i in range(q.rows)])


def _stein(m: Any) -> Any:
    """The solution of A X A^T - E X E^T + Q = 0."""
    a, e = m["a"], m.get("e", mp.eye(m["a"].rows))
    return _summed([(a, a.T), (-e, e.T)], -m["q"])


def _riccati(label: str, function: str, order: int, columns: int, *optional: str) -> Case:
    """A Riccati equation, whose solution Newton's method brings from float64 to 60 digits."""
    shapes = {"a": (order, order), "b": (order, columns), "e": (order, order), "s": (order, columns)}
    inputs = {name: cotangent(*shapes[name]) / 3 for name in ("a", "b", *optional)}
    inputs |= {"e": inputs["e"] + np.eye(order)} if "e" in inputs else {}
    inputs |= {"q": np.eye(order) + symmetric(*range(order)), "r": symmetric(*range(1, columns + 1))}
    first = answer(function, inputs).outputs[0]

    def solution(m: Any) -> tuple[Any, ...]:
        x, e, s = mp.matrix(first.tolist()), m.get("e", mp.eye(order)), m.get("s", mp.zeros(order, columns))
        for _ in range(4):
            if function == "solve_dare":
                weight, held, sign = m["r"] + m["b"].T * x * m["b"], m["b"].T * x * m["a"] + s.T, -1
            else:
                weight, held, sign = m["r"], m["b"].T * x * e + s.T, 1
            loop = m["a"] - m["b"] * weight**-1 * held
            left, right = (loop, loop) if sign < 0 else (loop, e)
            pairs = [(left.T, right), (e.T, loop)] if sign > 0 else [(left.T, right), (-e.T, e)]
            linear = m["a"].T * x * (m["a"] if sign < 0 else e)
            other = -e.T * x * e if sign < 0 else linear.T
            x -= _summed(pairs, linear + other - held.T * weight**-1 * held + m["q"])
        return (x,)

    return Case(function, inputs, (cotangent(order, order),), {}, solution, ("q", "r"), label=label)


def _eigenpairs(label: str, a: Array, *, x: bool, y: bool) -> Case:
    """Eigenvalues and eigenvectors whose largest entries are positive."""

    def pairs(m: Any) -> tuple[Any, ...]:
        w, v = mp.eigsy((m["a"] + m["a"].T) / 2)
        order = sorted(range(len(w)), key=lambda i: w[i])
        columns = [v[:, i] * mp.sign(max(v[:, i], key=abs)) for i in order]
        vectors = mp.matrix([[column[i] for column in columns] for i in range(v.rows)])
        return mp.matrix([w[i] for i in order]), vectors

    cotangents = (cotangent(len(a)) if x else None, cotangent(*a.shape) if y else None)
    return Case("eigh", {"a": a}, cotangents, {}, pairs, ("a",), label=label)


def _polar(label: str, m: Array, *, x: bool, y: bool, accuracy: float = 1e-12) -> Case:
    unitary, modulus = singular(_one), singular(lambda sigma: sigma)

    def factors(given: Any) -> tuple[Any, ...]:
        u, whole = unitary(given["m"]), modulus(given["m"])
        return u, u.T * whole

    cotangents = (cotangent(*m.shape) if x else None, cotangent(m.shape[1], m.shape[1]) if y else None)
    return Case("polar", {"m": m}, cotangents, {}, factors, (), accuracy, label=label)


def _mean(label: str, a: Array, b: Array, accuracy: float = 1e-12, t: float | None = None) -> Case:
    cotangents, keywords = (cotangent(*a.shape),), {} if t is None else {"t": t}
    place = mp.mpf(1) / 2 if t is None else mp.mpf(t)
    definition: Callable[[Any], tuple[Any, ...]] = lambda m: (mean(m["a"], m["b"], place),)  # noqa: E731
    return Case("geometric_mean", {"a": a, "b": b}, cotangents, keywords, definition, ("a", "b"), accuracy, label=label)


def _distance(label: str, s1: Array, s2: Array) -> Case:
    order = len(s1)
    inputs = {"mu1": cotangent(order), "s1": s1, "mu2": cotangent(order), "s2": s2}
    definition: Callable[[Any], tuple[Any, ...]] = lambda m: (frechet(m["mu1"], m["s1"], m["mu2"], m["s2"]),)  # noqa: E731
    return Case("frechet_distance", inputs, (np.array([[1.5]]),), {}, definition, ("s1", "s2"), 1e-12, label=label)


WELL: Final = symmetric(0.5, 1.0, 3.0)
REPEATED: Final = symmetric(1.0, 1.0, 4.0)
CLOSE: Final = symmetric(1.0, 1.0 + 1e-9, 2.0)
GRADED: Final = symmetric(1e-6, 1e-3, 1.0)
SINGULAR: Final = symmetric(0.0, 1.0, 2.0)
HALF, THIRD = mp.mpf(1) / 2, mp.mpf(1) / 3
ANY: Final = cotangent(3, 3) / 3 + 2 * np.eye(3)
"""A matrix without symmetry whose eigenvalues are to the right of 0."""

CASES: Final = [
    power_case("well", WELL, HALF, keywords={"r": 2}),
    power_case("with g", WELL, mp.mpf(3) / 2, g=cotangent(2, 3), keywords={"r": 2, "s": 3}),
    power_case("identity", np.eye(3), THIRD, keywords={"r": 3}),
    power_case("square of a singular matrix", SINGULAR, 2, keywords={"r": 1, "s": 2}),
    power_case("close eigenvalues", CLOSE, mp.mpf(4) / 6, keywords={"r": 6, "s": 4}),
    power_case("range", SINGULAR, HALF, rank=2, keywords={"r": 2, "damping": "range"}),
    power_case("well", WELL, -mp.mpf(1) / 4, keywords={"r": 4}),
    power_case("inverse", WELL, -1, keywords={"r": 1}),
    power_case("identity, with g", np.eye(3), -HALF, g=cotangent(5, 3), keywords={"r": 2}),
    power_case("repeated", REPEATED, -HALF, keywords={"r": 2}),
    power_case("graded", GRADED, -HALF, keywords={"r": 2}, accuracy=1e-9),
    power_case("damped", SINGULAR, -mp.mpf(1) / 4, shift=0.25, keywords={"r": 4, "shift": 0.25}),
    power_case("range", SINGULAR, -mp.mpf(1) / 4, rank=2, keywords={"r": 4, "damping": "range"}),
    _pair("both", WELL, x=True, y=True),
    _pair("the root alone, identity", np.eye(3), x=True, y=False),
    _pair("the inverse alone, repeated", REPEATED, x=False, y=True),
    _mapped("log", "well", WELL, mp.log),
    _mapped("log", "identity", np.eye(3), mp.log),
    _mapped("log", "close", CLOSE, mp.log),
    _mapped("log", "graded", GRADED, mp.log, accuracy=1e-9),
    _mapped("log", "damped", SINGULAR, lambda w: mp.log(w + 0.25), shift=0.25),
    _mapped("log", "range", SINGULAR, lambda w: mp.log(w) if w > 0.5 else mp.mpf(0), damping="range"),
    _mapped("exp", "indefinite", symmetric(-2.0, 0.5, 3.0), mp.exp),
    _mapped("exp", "repeated", REPEATED, mp.exp),
    _mapped("exp", "zero", np.zeros((3, 3)), mp.exp),
    _mapped("exp", "negative factor", CLOSE, lambda w: mp.exp(-2.5 * w), t=-2.5),
    _mapped("power", "real", WELL, lambda w: w ** mp.mpf(0.3), p=0.3),
    _mapped("power", "close, with g", CLOSE, lambda w: w ** mp.mpf(-1.7), p=-1.7, g=cotangent(2, 3)),
    _mapped("power", "steep", REPEATED, lambda w: w ** mp.mpf(7.5), p=7.5),
    _mapped("power", "range", SINGULAR, lambda w: w ** mp.mpf(-0.5) if w > 0.5 else mp.mpf(0), p=-0.5, damping="range"),
    _mapped("power", "square of an indefinite matrix", symmetric(-2.0, 0.5, 3.0), lambda w: w**2, p=2),
    _mapped("power", "fifth of a singular matrix", symmetric(-1.0, 0.0, 2.0), lambda w: w**5, p=5),
    _mapped(
        "power", "inverse of an indefinite matrix", symmetric(-2.0, -2.0, 1.0), lambda w: 1 / w, p=-1, g=cotangent(4, 3)
    ),
    _mapped("power", "inverse cube", symmetric(-2.0, 0.5, 1.0), lambda w: 1 / w**3, p=-3),
    _mapped("power", "identity", symmetric(-2.0, 0.5, 1.0), lambda w: w, p=1, g=cotangent(2, 3)),
    _general("root", "general, with g", ANY, lambda w: w ** (2 * THIRD), r=3, s=2, g=cotangent(2, 3)),
    _general("inv_root", "general, shifted", ANY, lambda w: w**-HALF, r=2, shift=0.5),
    _general("log", "general", ANY, mp.log),
    _general("exp", "general", cotangent(3, 3), lambda w: mp.exp(-w / 2), t=-0.5),
    _general("power", "general", ANY, lambda w: w ** mp.mpf(0.3), p=0.3),
    _general("power", "general, inverse square, with g", ANY, lambda w: w**-2, p=-2, g=cotangent(2, 3)),
    _singular("msign", "square", _of_singular_values(3, 3, 3.0, 1.0, 0.4), _one),
    _singular("msign", "orthogonal", _orthogonal(3), _one),
    _singular("msign", "tall", _of_singular_values(4, 2, 1.0, 1.0), _one),
    _singular("msign", "wide", _of_singular_values(2, 3, 3.0, 0.1), _one),
    _singular("msign", "one tiny", _of_singular_values(3, 3, 2.0, 1.0, 1e-9), _one, accuracy=1e-5),
    _singular("msign", "tall, one tiny", _of_singular_values(3, 2, 2.0, 1e-7), _one, accuracy=1e-7),
    _singular("msign", "two tiny", _of_singular_values(3, 3, 2.0, 1e-6, 1e-6), _one, accuracy=1e-8),
    _singular("mclip", "square", _of_singular_values(3, 3, 3.0, 1.0, 0.4), lambda s: min(s, mp.mpf(1.5)), hi=1.5),
    _singular("mclip", "tall", _of_singular_values(3, 2, 3.0, 1.0), lambda s: min(s, mp.mpf(2)), hi=2.0),
    _singular(
        "mclip", "wide", _of_singular_values(2, 3, 3.0, 0.2), lambda s: min(max(s, mp.mpf(0.5)), 2), lo=0.5, hi=2.0
    ),
    _singular("mclip", "rank one", _of_singular_values(3, 2, 3.0), lambda s: min(s, mp.mpf(1)), hi=1.0),
    _clip("both sides", symmetric(-2.0, 0.5, 3.0), -1.0, 1.0),
    _clip("repeated", symmetric(-1.0, -1.0, 2.0), 0.0, np.inf),
    _clip("nothing", WELL, 0.0, 9.0),
    _triangular("lower", np.tril(cotangent(3, 3)) + 2 * np.eye(3)),
    _triangular("upper, unit", cotangent(3, 3), lower=False, unit_diagonal=True),
    _triangular("lower", np.tril(cotangent(3, 3)) + 2 * np.eye(3), cotangent(3, 2)),
    _triangular("upper, transposed", cotangent(3, 3) + 2 * np.eye(3), cotangent(3, 2), lower=False, transpose=True),
    _triangular("unit, transposed", cotangent(3, 3), cotangent(3, 1), unit_diagonal=True, transpose=True),
    _low_rank("plain", np.array([1.0, 2.0, 0.5]), cotangent(3, 2), cotangent(3, 2), cotangent(3, 2)),
    _low_rank(
        "transposed", np.array([1.0, 2.0, 0.5]), cotangent(3, 1), cotangent(3, 1), cotangent(3, 2), transpose=True
    ),
    _solution(
        "solve_sylvester",
        "rectangular",
        {"a": cotangent(2, 2) + 3 * np.eye(2), "b": np.array([[4.0]]), "q": cotangent(2, 1)},
        solve=_equation,
    ),
    _solution("solve_lyapunov", "plain", {"a": cotangent(2, 2) + 3 * np.eye(2), "q": cotangent(2, 2)}, solve=_equation),
    _solution("solve_lyapunov", "symmetric", {"a": symmetric(1.0, 1.0), "q": np.eye(2)}, solve=_equation),
    _solution("solve_discrete_lyapunov", "plain", {"a": cotangent(2, 2) / 3, "q": cotangent(2, 2)}, solve=_stein),
    _solution(
        "solve_discrete_lyapunov",
        "with a descriptor",
        {"a": cotangent(2, 2), "q": cotangent(2, 2), "e": cotangent(2, 2) + 3 * np.eye(2)},
        solve=_stein,
    ),
    _riccati("plain", "solve_care", 2, 1),
    _riccati("with all terms", "solve_care", 2, 2, "e", "s"),
    _riccati("plain", "solve_dare", 2, 1),
    _riccati("with all terms", "solve_dare", 2, 2, "e", "s"),
    _eigenpairs("both", symmetric(-2.0, 0.5, 3.0), x=True, y=True),
    _eigenpairs("values alone", symmetric(-2.0, 0.5, 0.625), x=True, y=False),
    _eigenpairs("vectors alone, graded", symmetric(1e-3, 0.1, 1.0), x=False, y=True),
    _polar("both, square", _of_singular_values(3, 3, 3.0, 1.0, 0.4), x=True, y=True),
    _polar("the second alone, orthogonal", _orthogonal(3), x=False, y=True),
    _polar("the second alone, tall", _of_singular_values(4, 2, 3.0, 0.01), x=False, y=True),
    _polar("both, wide", _of_singular_values(2, 3, 3.0, 0.1), x=True, y=True),
    _mean("plain", symmetric(1.0, 3.0), symmetric(0.2, 1.0) + np.array([[0.5, 0.3], [0.3, 0.5]])),
    _mean("of one matrix", symmetric(1.0, 2.0), symmetric(1.0, 2.0)),
    _mean("of identities", np.eye(2), np.eye(2)),
    *(
        _mean(f"at {t}", symmetric(1.0, 3.0), symmetric(0.2, 1.0) + np.array([[0.5, 0.3], [0.3, 0.5]]), 1e-11, t)
        for t in (0.25, 0.875, 1.5, -2.0)
    ),
    _mean("of one matrix at 0.25", symmetric(1.0, 2.0), symmetric(1.0, 2.0), t=0.25),
    _mean("ill-conditioned", symmetric(1e-6, 1.0), np.array([[2.0, 0.5], [0.5, 1.0]]), 1e-8),
    _distance("plain", symmetric(1.0, 3.0), np.array([[2.0, 0.5], [0.5, 1.0]])),
    _distance("identity", np.eye(2), symmetric(1.0, 4.0)),
]
