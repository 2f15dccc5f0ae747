"""The self-test of a client's answers against float64 truth that is known by construction.

Every matrix is built from its spectrum and seeded factors whose inverses are known, so that its function is the same
factors around the function of the spectrum; an equation is built around its solution. Nothing is computed that could be
wrong in the same way. Only the triangular truths are computed, by `numpy.linalg.solve` in float64, and those of
attention, by the plain formulas. Gradients are those of the factors, by divided differences of the spectrum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

import numpy as np

from matfn import call, gradient
from matfn.answers import outputs_of
from matfn.errors import MatfnError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from numpy.typing import NDArray

    from matfn.invocation import Invocation
    from matfn.wire import Certificate
    from matfn.with_info import Asker

__all__ = ["DTYPES", "Case", "Verdict", "cases", "verdict_of", "verdicts"]

Array: TypeAlias = "NDArray[np.float64]"
Complexes: TypeAlias = "NDArray[np.complex128]"

DTYPES: Final = ("float32", "float64")

_BATCH: Final = 3
_ORDER: Final = 24
_CONDITION: Final = 100.0
_MILD: Final = 10.0  # the condition where nothing is inverted
_SLACK: Final = 50.0  # what a backward-stable method may lose beside the condition number, and the data's own rounding


@dataclass(frozen=True, slots=True)
class Case:
    """One call with its true outputs; `bound` is the relative error that is still right."""

    dtype: str
    invocation: Invocation[Any]
    truth: tuple[Array, ...]
    bound: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """How one case came out: its largest relative error, or the error raised instead of an answer."""

    case: Case
    error: float
    certificate: Certificate | None
    milliseconds: float
    problem: str = ""

    @property
    def right(self) -> bool:
        """Whether the answer is within the bound; NaN is not."""
        return self.error <= self.case.bound


def verdicts(client: Asker, chosen: Iterable[Case]) -> Iterator[Verdict]:
    """Asks the client for every case and judges each answer."""
    for case in chosen:
        yield verdict_of(client, case)


def verdict_of(client: Asker, case: Case) -> Verdict:
    """The verdict on one case; an error of the service is a wrong answer here."""
    try:
        answer = client.ask(case.invocation)
    except MatfnError as error:
        return Verdict(case, float("nan"), None, 0.0, str(error))
    errors = [_distance(value, truth) for value, truth in zip(outputs_of(answer.value), case.truth, strict=True)]
    return Verdict(case, float(np.max(errors)), answer.certificates[0], answer.timing.device_ms)


def _distance(value: Any, truth: Array) -> float:
    """The largest relative error of the batch, in the Frobenius norm."""
    if np.shape(value) != truth.shape:
        return float("nan")
    difference = np.asarray(value, np.float64) - truth
    return float(np.max(_norms(difference) / _norms(truth)))


def _norms(batch: Array) -> Array:
    """The Frobenius norm of every item, whatever its number of dimensions."""
    return np.asarray(np.linalg.norm(batch.reshape(len(batch), -1), axis=-1))


def cases(seed: int = 0) -> list[Case]:
    """One case or more per function and dtype; the same matrices for the same seed."""
    rng = np.random.default_rng(seed)
    rows = [row for family in _FAMILIES for row in family(rng)]
    return [_case(dtype, row) for dtype in DTYPES for row in rows]


class _Row(NamedTuple):
    """A case before its inputs are rounded to a dtype."""

    builder: Callable[..., Invocation[Any]]
    inputs: tuple[Array, ...]
    truth: tuple[Array, ...]
    condition: float = _CONDITION


def _case(dtype: str, row: _Row) -> Case:
    sent = [array.astype(dtype) for array in row.inputs]
    return Case(dtype, row.builder(*sent), row.truth, _SLACK * float(np.finfo(dtype).eps) * row.condition)


def _orthogonal(rng: np.random.Generator, rows: int, columns: int) -> Array:
    q, _ = np.linalg.qr(rng.standard_normal((_BATCH, rows, columns)))
    return np.asarray(q)


def _basis(rng: np.random.Generator, order: int = _ORDER) -> tuple[Array, Array]:
    """A well-conditioned matrix that is not orthogonal, and its inverse."""
    u, v = _orthogonal(rng, order, order), _orthogonal(rng, order, order)
    s = np.geomspace(1, 2, order)
    return _around(u, s, v), _around(v, 1 / s, u)


def _blocks(z: Complexes) -> Array:
    """The real matrix of order 2 len(z) with the eigenvalues z and their conjugates, in blocks of two."""
    turn = np.array([[0.0, -1.0], [1.0, 0.0]])
    return np.asarray(np.kron(np.diag(z.real), np.eye(2)) + np.kron(np.diag(z.imag), turn))


def _spectrum(least: float, most: float, widest: float, order: int = _ORDER) -> Complexes:
    """Half of a real matrix's eigenvalues: of modulus least to most, turned from the positive axis by 0 to widest."""
    half = order // 2
    return np.asarray(np.geomspace(least, most, half) * np.exp(1j * np.linspace(0, widest, half)))


def _transposed(a: Array) -> Array:
    return np.swapaxes(a, -1, -2)


def _around(u: Array, spectrum: Array, v: Array) -> Array:
    """U diag(spectrum) V^T."""
    return np.asarray((u * spectrum) @ _transposed(v))


def _solved(matrix: Array, right: Array) -> Array:
    return np.asarray(np.linalg.solve(matrix, right), np.float64)


def _roots(rng: np.random.Generator) -> list[_Row]:
    """Powers of symmetric positive definite matrices."""
    v = _orthogonal(rng, _ORDER, _ORDER)
    w = np.geomspace(1 / _CONDITION, 1, _ORDER)
    a, g = _around(v, w, v), rng.standard_normal((_BATCH, 7, _ORDER))
    halves = (_around(v, w**0.5, v), _around(v, w**-0.5, v))
    return [
        _Row(lambda a: call.root(a, 3), (a,), (_around(v, w ** (1 / 3), v),)),
        _Row(lambda a: call.inv_root(a, 4), (a,), (_around(v, w**-0.25, v),)),
        _Row(lambda a, g: call.inv_root(a, 2, g=g), (a, g), (g @ halves[1],)),
        _Row(call.sqrt_pair, (a,), halves),
        *_spectral(rng),
    ]


def _spectral(rng: np.random.Generator) -> list[_Row]:
    """Logarithms, exponentials and real powers, of indefinite matrices too."""
    v, w = _orthogonal(rng, _ORDER, _ORDER), np.geomspace(1 / _CONDITION, 1, _ORDER)
    a, indefinite, g = _around(v, w, v), np.linspace(-2, 1, _ORDER), rng.standard_normal((_BATCH, 7, _ORDER))
    mixed = _around(v, indefinite, v)
    return [
        _Row(call.log, (a,), (_around(v, np.log(w), v),)),
        _Row(lambda a: call.exp(a, t=-1.5), (mixed,), (_around(v, np.exp(-1.5 * indefinite), v),), _MILD),
        _Row(lambda a, g: call.power(a, -0.3, g=g), (a, g), (g @ _around(v, w**-0.3, v),)),
        _Row(lambda a: call.power(a, 3), (mixed,), (_around(v, indefinite**3, v),), _MILD),
        *_without_symmetry(rng),
    ]


def _without_symmetry(rng: np.random.Generator) -> list[_Row]:
    """Logarithms, exponentials and powers of matrices without symmetry."""
    basis, w = np.eye(_ORDER) + rng.standard_normal((_ORDER, _ORDER)) / (2 * _ORDER), np.linspace(0.5, 2, _ORDER)
    inverse = _solved(basis, np.eye(_ORDER))
    a = np.broadcast_to((basis * w) @ inverse, (_BATCH, _ORDER, _ORDER))

    def of(values: Array) -> Array:
        return np.broadcast_to((basis * values) @ inverse, a.shape)

    return [
        _Row(lambda a: call.log(a, structure="general"), (a,), (of(np.log(w)),), _MILD),
        _Row(lambda a: call.exp(a, t=-2.0, structure="general"), (a,), (of(np.exp(-2 * w)),), _MILD),
        _Row(lambda a: call.power(a, 0.3, structure="general"), (a,), (of(w**0.3),), _MILD),
    ]


def _polar(rng: np.random.Generator) -> list[_Row]:
    """Functions of singular values."""
    u, v = _orthogonal(rng, 2 * _ORDER, _ORDER), _orthogonal(rng, _ORDER, _ORDER)
    s = np.geomspace(1 / _CONDITION, 1, _ORDER)
    m = _around(u, s, v)
    return [
        _Row(call.msign, (m,), (_around(u, np.ones_like(s), v),)),
        _Row(call.polar, (m,), (_around(u, np.ones_like(s), v), _around(v, s, v))),
        _Row(call.norm2, (m,), (np.ones(_BATCH), np.ones(_BATCH))),
        _Row(call.cond, (m,), (np.full(_BATCH, _CONDITION), np.full(_BATCH, _CONDITION))),
        _Row(lambda m: call.mclip(m, hi=0.5, lo=0.1), (m,), (_around(u, np.clip(s, 0.1, 0.5), v),)),
    ]


def _triangular(rng: np.random.Generator) -> list[_Row]:
    """Inverses and solutions; the noise above the diagonal must not be read."""
    noise = rng.standard_normal((_BATCH, _ORDER, _ORDER))
    t = np.tril(noise, -1) / _ORDER + np.eye(_ORDER)
    b = rng.standard_normal((_BATCH, _ORDER, 5))
    stored = t + np.triu(noise, 1)
    return [
        _Row(call.tri_inv, (stored,), (_solved(t, np.broadcast_to(np.eye(_ORDER), t.shape)),)),
        _Row(call.tri_solve, (stored, b), (_solved(t, b),)),
    ]


def _low_rank(rng: np.random.Generator) -> list[_Row]:
    """Diagonal plus strictly lower low-rank matrices."""
    diag = rng.uniform(1, 2, (_BATCH, _ORDER))
    q, k = rng.standard_normal((2, _BATCH, _ORDER, 4)) / _ORDER
    b = rng.standard_normal((_BATCH, _ORDER, 5))
    matrix = np.tril(q @ _transposed(k), -1) + diag[..., None] * np.eye(_ORDER)
    inverse = _solved(matrix, np.broadcast_to(np.eye(_ORDER), matrix.shape))
    return [
        _Row(call.dplr_inv, (diag, q, k), (inverse,)),
        _Row(call.dplr_solve, (diag, q, k, b), (_solved(matrix, b),)),
    ]


def _general(rng: np.random.Generator) -> list[_Row]:
    """Functions of matrices that are not symmetric, with complex eigenvalues."""
    s, inverse = _basis(rng)
    z = _spectrum(0.1, 1, 2.5)
    across = _spectrum(0.3, 1, 1.2) * np.resize([1, -1], _ORDER // 2)
    sides = np.sign(across.real) + 0j
    a, b = s @ _blocks(z) @ inverse, s @ _blocks(across) @ inverse
    right, left = (s @ _blocks((1 + side * sides) / 2) @ inverse for side in (1, -1))
    return [
        _Row(lambda a: call.root(a, 3, structure="general"), (a,), (s @ _blocks(z ** (1 / 3)) @ inverse,)),
        _Row(call.mcsgn, (b,), (s @ _blocks(sides) @ inverse,)),
        _Row(call.spectral_projector, (b,), (right,)),
        _Row(lambda a: call.spectral_projector(a, half="left"), (b,), (left,)),
    ]


def _equations(rng: np.random.Generator) -> list[_Row]:
    """Linear matrix equations around a chosen solution; the spectra of the first need not lie in a half plane."""
    s, s_inverse = _basis(rng)
    t, t_inverse = _basis(rng, _ORDER // 2)
    a = s @ _blocks(_spectrum(1, 2, 1.2) * np.resize([1, -1], _ORDER // 2)) @ s_inverse
    b = t @ _blocks(_spectrum(0.1, 0.5, 3, _ORDER // 2)) @ t_inverse
    x = rng.standard_normal((_BATCH, _ORDER, _ORDER // 2))
    stable = s @ _blocks(-_spectrum(0.3, 1, 1.2)) @ s_inverse
    y = rng.standard_normal((_BATCH, _ORDER, _ORDER))
    return [
        _Row(call.solve_sylvester, (a, b, a @ x + x @ b), (x,)),
        _Row(call.solve_lyapunov, (stable, stable @ y + y @ _transposed(stable)), (y,)),
        *_lyapunov(stable, _around(s, np.geomspace(1, 2, _ORDER), s), y),
        *_riccati(rng),
    ]


def _lyapunov(m: Array, e: Array, x: Array) -> list[_Row]:
    """Discrete and generalised Lyapunov equations of the pencil E M - s E around a chosen solution."""
    a, outer = e @ m, e @ x @ _transposed(e)
    continuous = a @ x @ _transposed(e) + e @ x @ _transposed(a)
    halved, discrete = a / 2, outer - a @ x @ _transposed(a) / 4
    return [
        _Row(call.solve_discrete_lyapunov, (m / 2, x - m @ x @ _transposed(m) / 4), (x,)),
        _Row(lambda a, q, e: call.solve_lyapunov(a, q, e=e), (a, continuous, e), (x,)),
        _Row(lambda a, q, e: call.solve_discrete_lyapunov(a, q, e=e), (halved, discrete, e), (x,)),
    ]


def _riccati(rng: np.random.Generator) -> list[_Row]:
    """Riccati equations around a chosen solution, their closed loops stable by Lyapunov's theorem.

    In continuous time A = X^-1 (M + (X G X - Q) / 2) with G = B R^-1 B^T and any skew M; then A - G X is stable for
    positive definite X and Q. In discrete time Q = X - A^T X A + H^T W^-1 H with the H and W of a contraction A.
    """
    v, w, p = (_orthogonal(rng, order, order) for order in (_ORDER, _ORDER, 5))
    spectrum, weights = np.geomspace(0.5, 2, _ORDER), np.geomspace(0.5, 2, 5)
    x, q, r = _around(v, spectrum, v), _around(w, spectrum, w), _around(p, weights, p)
    b = rng.standard_normal((_BATCH, _ORDER, 5)) / 5
    noise = rng.standard_normal((_BATCH, _ORDER, _ORDER)) / _ORDER
    pressed = x @ b
    quadratic = pressed @ _around(p, 1 / weights, p) @ _transposed(pressed)
    a = _around(v, 1 / spectrum, v) @ (noise - _transposed(noise) + (quadratic - q) / 2)
    return [_Row(call.solve_care, (a, b, q, r), (x,)), *_discrete_riccati(noise / 4, b, r, x)]


def _discrete_riccati(a: Array, b: Array, r: Array, x: Array) -> list[_Row]:
    """With E = I and S = 0, and with those that A and B are small beside."""
    e, s, weight = 2 * np.eye(_ORDER) + a, b / 4, r + _transposed(b) @ x @ b
    plain, crossed = (_transposed(b) @ x @ a + part for part in (0, _transposed(s)))
    pressed = _transposed(a) @ x @ a
    weights = [
        outer - pressed + _transposed(held) @ _solved(weight, held)
        for outer, held in ((x, plain), (_transposed(e) @ x @ e, crossed))
    ]
    first, second = ((q + _transposed(q)) / 2 for q in weights)
    return [
        _Row(call.solve_dare, (a, b, first, r), (x,)),
        _Row(lambda a, b, q, r, e, s: call.solve_dare(a, b, q, r, e=e, s=s), (a, b, second, r, e, s), (x,)),
    ]


def _symmetric(rng: np.random.Generator) -> list[_Row]:
    """Clipped eigenvalues, and pairs of positive definite matrices that do not commute."""
    v = _orthogonal(rng, _ORDER, _ORDER)
    w = np.linspace(-1, 1, _ORDER)
    c, _ = _basis(rng)
    first, second = np.geomspace(0.1, 1, _ORDER), rng.uniform(0.1, 1, (_BATCH, 1, _ORDER))
    near = _orthogonal(rng, _ORDER, _ORDER) * 0.01
    basis, _ = np.linalg.qr(v + near)
    permutation = np.broadcast_to(np.arange(_ORDER, dtype=float), (_BATCH, _ORDER))
    turned = _transposed(basis) @ _around(v, w, v) @ basis
    drift = _norms(turned * (1 - np.eye(_ORDER))) / np.linalg.norm(w)
    pair = tuple((c * d) @ _transposed(c) for d in (first, second))
    mean = (c * np.sqrt(first * second)) @ _transposed(c)
    return [
        _Row(lambda a: call.eig_clip(a, lo=0.0, hi=0.5), (_around(v, w, v),), (_around(v, np.clip(w, 0, 0.5), v),)),
        _Row(call.eigh, (_around(v, w, v),), (np.broadcast_to(w, (_BATCH, _ORDER)), _signed(v)), _MILD),
        _Row(call.eigenbasis, (_around(v, w, v), basis), (v, permutation * 0 + w, drift, permutation)),
        _Row(call.geometric_mean, pair, (mean,)),
        _frechet(rng),
    ]


def _signed(v: Array) -> Array:
    """The columns with the signs that make their entries of largest modulus positive."""
    largest = np.take_along_axis(v, np.abs(v).argmax(-2, keepdims=True), -2)
    return np.asarray(v * np.sign(largest))


def _frechet(rng: np.random.Generator) -> _Row:
    """Two Gaussians, S2 = T S1 T by the optimal transport T > 0; the distance is |mu1-mu2|^2 + tr (T-I) S1 (T-I)."""
    u, v = _orthogonal(rng, _ORDER, _ORDER), _orthogonal(rng, _ORDER, _ORDER)
    means = rng.standard_normal((2, _BATCH, _ORDER)) / 2
    s1, t = _around(u, np.geomspace(1 / _CONDITION, 1, _ORDER), u), _around(v, np.geomspace(0.5, 4, _ORDER), v)
    moved = t - np.eye(_ORDER)
    truth = np.sum((means[0] - means[1]) ** 2, axis=-1) + np.trace(moved @ s1 @ moved, axis1=-2, axis2=-1)
    return _Row(call.frechet_distance, (means[0], s1, means[1], t @ s1 @ t), (truth,))


def _attention(rng: np.random.Generator) -> list[_Row]:
    """Logits and clipped weights of four heads, and the delta rule, by the plain formulas."""
    q, k = rng.standard_normal((_BATCH, 4, 16, 8)), rng.standard_normal((_BATCH, 2, _ORDER, 8))
    logits = np.abs(q @ _transposed(np.repeat(k, 2, axis=1)))
    seen = np.tri(16, _ORDER, _ORDER - 16)
    return [
        _Row(call.max_logit, (q, k), (np.max(logits * seen, axis=(-2, -1)) / 8**0.5,), _MILD),
        _Row(
            lambda q, k: call.max_logit(q, k, scale=2.0, causal=False),
            (q, k),
            (2 * np.max(logits, axis=(-2, -1)),),
            _MILD,
        ),
        *_clipped(rng),
        *_recurrence(rng),
    ]


def _clipped(rng: np.random.Generator) -> list[_Row]:
    """The three ways of heads to share the factor gamma."""
    w_q, w_k = rng.standard_normal((2, _BATCH, 4, 8, _ORDER))
    largest = rng.permuted(np.tile([20.0, 150.0, 300.0, 500.0], (_BATCH, 1)), axis=-1)
    gamma = np.minimum(1, 100 / largest)
    root = np.sqrt(gamma)[..., None, None]
    shared = np.sqrt(np.max(gamma.reshape(_BATCH, 2, 2), axis=-1))
    grouped = (gamma / np.repeat(shared, 2, axis=-1))[..., None, None] * w_q
    rope = np.concatenate([w_q[..., :5, :] * root, w_q[..., 5:, :] * root**2], axis=-2)
    few, nope = w_k[:, :2], w_k[..., :5, :]
    return [
        _Row(call.qk_clip, (w_q, w_k, largest), (w_q * root, w_k * root, gamma), _MILD),
        _Row(
            lambda *given: call.qk_clip(*given, variant="gqa"),
            (w_q, few, largest),
            (grouped, few * shared[..., None, None], gamma),
            _MILD,
        ),
        _Row(
            lambda *given: call.qk_clip(*given, variant="mla"),
            (w_q, nope, largest),
            (rope, nope * root, gamma),
            _MILD,
        ),
    ]


def _recurrence(rng: np.random.Generator) -> list[_Row]:
    """The gated delta rule with one gate a step and with one for each channel, the last chunk short."""
    steps, dk, dv = 40, 8, 6
    q, k = rng.standard_normal((2, _BATCH, steps, dk)) / dk**0.5
    v = rng.standard_normal((_BATCH, steps, dv))
    beta, log_gate = rng.uniform(0, 1, (_BATCH, steps)), rng.uniform(-0.5, 0, (_BATCH, steps))
    start = rng.standard_normal((_BATCH, dk, dv))
    by_channel = rng.uniform(-0.5, 0, (_BATCH, steps, dk))
    return [
        _Row(
            lambda q, k, v, beta, log_gate, start: call.delta_rule(
                q, k, v, beta=beta, log_gate=log_gate, initial_state=start, chunk=16
            ),
            (q, k, v, beta, log_gate, start),
            _stepped(q, k, v, beta, log_gate[..., None], start),
            _MILD,
        ),
        _Row(
            lambda q, k, v, beta, gate, start: call.delta_rule(
                q, k, v, beta=beta, channel_log_gate=gate, initial_state=start, chunk=16, scale=0.5
            ),
            (q, k, v, beta, by_channel, start),
            _stepped(q / 2, k, v, beta, by_channel, start),
            _MILD,
        ),
    ]


def _stepped(q: Array, k: Array, v: Array, beta: Array, log_gate: Array, state: Array) -> tuple[Array, Array]:
    """Outputs and final state of the gated delta rule."""
    outputs = []
    for i in range(q.shape[1]):
        state = np.exp(log_gate[:, i, :, None]) * state
        missing = v[:, i, None, :] - k[:, i, None, :] @ state
        state = state + beta[:, i, None, None] * k[:, i, :, None] * missing
        outputs.append((q[:, i, None, :] @ state)[:, 0])
    return np.stack(outputs, axis=1), state


def _gradients(rng: np.random.Generator) -> list[_Row]:
    """Vector-Jacobian products around known factors; cotangents come first."""
    u, v = _orthogonal(rng, 2 * _ORDER, _ORDER), _orthogonal(rng, _ORDER, _ORDER)
    w, s = np.geomspace(1 / _MILD, 1, _ORDER), np.geomspace(1 / _MILD, 1, _ORDER)
    x, y = rng.standard_normal((_BATCH, _ORDER, _ORDER)), rng.standard_normal((_BATCH, 2 * _ORDER, _ORDER))
    return [
        _Row(lambda x, a: gradient.inv_root(x, a, 2), (x, _around(v, w, v)), (_of_inverse_root(v, w, x),), _MILD**2),
        _Row(gradient.msign, (y, _around(u, s, v)), (_of_polar(u, s, v, y),), _MILD**2),
        _gradients_of_sylvester(rng),
    ]


def _of_inverse_root(v: Array, w: Array, x: Array) -> Array:
    """The gradient of A^(-1/2); the divided difference of two powers is -1 / (p q (p + q)) of their roots p and q."""
    p, q = np.sqrt(w)[:, None], np.sqrt(w)[None, :]
    turned = _transposed(v) @ ((x + _transposed(x)) / 2) @ v
    return np.asarray(v @ (-turned / (p * q * (p + q))) @ _transposed(v))


def _of_polar(u: Array, s: Array, v: Array, y: Array) -> Array:
    """The gradient of the polar factor of U diag(s) V^T: within the range of U, and beyond it."""
    turned = _transposed(u) @ y @ v
    within = u @ ((turned - _transposed(turned)) / (s[:, None] + s[None, :])) @ _transposed(v)
    return np.asarray(within + (y - u @ (_transposed(u) @ y)) @ _around(v, 1 / s, v))


def _gradients_of_sylvester(rng: np.random.Generator) -> _Row:
    """Those of A, B and C, around a chosen gradient of C."""
    s, s_inverse = _basis(rng)
    t, t_inverse = _basis(rng, _ORDER // 2)
    a = s @ _blocks(_spectrum(1, 2, 1.2)) @ s_inverse
    b = t @ _blocks(_spectrum(0.1, 0.5, 1.2, _ORDER // 2)) @ t_inverse
    x, of_c = rng.standard_normal((2, _BATCH, _ORDER, _ORDER // 2))
    cotangent = _transposed(a) @ of_c + of_c @ _transposed(b)
    truth = (-of_c @ _transposed(x), -_transposed(x) @ of_c, of_c)
    return _Row(gradient.solve_sylvester, (cotangent, a, b, a @ x + x @ b), truth)


_FAMILIES: Final = (_roots, _polar, _triangular, _low_rank, _general, _equations, _symmetric, _attention, _gradients)
