"""Roots of identities, of diagonal matrices and of numbers beside blocks: to an ulp, by every method."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from evaluating import answer, candidates, run

if TYPE_CHECKING:
    from evaluating import Answer, Array

DTYPES = [np.float32, np.float64, np.complex64, np.complex128]
ADDED: list[dict[str, Any]] = [{}, {"damping": 0.0}, {"damping": 1e-3}, {"damping": 1e-6}, {"shift": 1e-2}]
POWERS: list[tuple[str, int, int]] = [
    *(("inv_root", r, 1) for r in range(1, 9)),
    ("inv_root", 3, 2),
    ("inv_root", 4, 4),
    ("root", 2, 1),
    ("root", 4, 3),
    ("root", 8, 1),
    ("root", 1, 2),
]
ORDERS = [1, 2, 7, 64, 65, 129]
ULPS = 1.0


def _spectrum(kind: str, order: int) -> Array:
    rng = np.random.default_rng(order)
    spectra = {
        "identity": np.ones(order),
        "multiple": np.full(order, 0.37),
        "spread": np.exp(rng.uniform(np.log(1e-5), np.log(1e1), order)),
        "clusters": np.where(np.arange(order) % 2, 1e-3, 1.0),
    }
    return spectra[kind]


def _ulps(found: Array, numbers: Array, exponent: tuple[int, int], shift: float | None) -> float:
    """Largest distance from the powers of the shifted numbers, in units of the last place."""
    s, r = exponent
    exact = (numbers.astype(np.longdouble) + (shift or 0.0)) ** (np.longdouble(s) / np.longdouble(r))
    return float((np.abs(found.real - exact) / np.spacing(np.abs(exact).astype(found.real.dtype))).max())


def _keywords(function: str, r: int, s: int, added: dict[str, Any]) -> dict[str, Any]:
    return added if function == "sqrt_pair" else {"r": r, "s": s, **added}


def _assert_exact(found: Answer, numbers: Array, powers: list[tuple[int, int]]) -> None:
    for output, power in zip(found.outputs, powers, strict=True):
        for x, certificate in zip(output, found.certificates, strict=True):
            assert _ulps(x.diagonal(), numbers, power, certificate.shift) <= ULPS
            assert np.array_equal(x, np.diag(x.diagonal().real))


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["identity", "multiple", "spread", "clusters"])
def test_powers_of_diagonal_matrices_are_those_of_their_numbers(kind: str, order: int, dtype: type[Any]) -> None:
    """Whatever is added to the diagonal, entries are within an ulp, and all others are zero."""
    a = np.diag(_spectrum(kind, order)).astype(dtype)[None]
    for function, r, s in [*POWERS[:: 1 + order // 32], ("sqrt_pair", 2, 1)]:
        signs = {"inv_root": [-1], "root": [1], "sqrt_pair": [1, -1]}[function]
        for added in ADDED:
            found = answer(function, {"a": a}, **_keywords(function, r, s, added))
            _assert_exact(found, a[0].diagonal().real, [(sign * s, r) for sign in signs])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("added", ADDED)
def test_every_method_is_exact(added: dict[str, Any], dtype: type[Any]) -> None:
    """Each program that may be planned has the powers of a diagonal matrix to an ulp."""
    a = np.diag(_spectrum("spread", 20) + 0.1).astype(dtype)[None]
    for program, call in candidates("inv_root", {"a": a}, r=4, **added):
        _assert_exact(run(program, call), a[0].diagonal().real, [(-1, 4)])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("added", ADDED)
@pytest.mark.parametrize("order", [5, 40, 70, 130])
def test_numbers_beside_blocks(order: int, added: dict[str, Any], dtype: type[Any]) -> None:
    """A number that is alone in its row and column has its power to an ulp, with zeros beside it."""
    rng = np.random.default_rng(order)
    g = rng.standard_normal((order, 2 * order))
    a = g @ g.T / order
    alone = np.sort(rng.choice(order, 1 + order // 3, replace=False))
    numbers = _spectrum("spread", len(alone)) + 0.05
    a[alone], a[:, alone] = 0, 0
    a[alone, alone] = numbers
    a = a.astype(dtype)[None]
    found = answer("inv_root", {"a": a}, r=4, **added)
    (x,) = found.outputs[0]
    assert _ulps(x[alone, alone], a[0, alone, alone].real, (-1, 4), found.certificates[0].shift) <= ULPS
    assert np.count_nonzero(x[alone]) == len(alone)
    assert np.count_nonzero(x[:, alone]) == len(alone)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("added", ADDED)
def test_products_with_powers_of_diagonal_matrices(added: dict[str, Any], dtype: type[Any]) -> None:
    """Columns of G are multiplied by numbers, with two roundings."""
    numbers = _spectrum("spread", 70) + 0.05
    a, g = np.diag(numbers).astype(dtype)[None], np.random.default_rng(0).standard_normal((1, 9, 70)).astype(dtype)
    found = answer("inv_root", {"a": a, "g": g}, r=2, **added)
    shift = found.certificates[0].shift or 0.0
    exact = g[0].real * (a[0].diagonal().real.astype(np.longdouble) + shift) ** np.longdouble(-0.5)
    assert (np.abs(found.outputs[0][0].real - exact) <= ULPS * np.spacing(np.abs(exact).astype(g.real.dtype))).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("added", ADDED)
def test_isolated_numbers_have_the_same_bits_alone(added: dict[str, Any], dtype: type[Any]) -> None:
    """Diagonal matrices, numbers beside blocks and dense matrices have the same bits alone as in one batch."""
    rng = np.random.default_rng(1)
    g = rng.standard_normal((6, 66, 90))
    a = g @ g.swapaxes(1, 2)
    a[0] = np.eye(66)
    a[1, 3], a[1, :, 3] = 0, 0
    a[1, 3, 3] = 0.3
    a[2] = np.diag(_spectrum("spread", 66))
    a[4, 0, 1] = a[4, 1, 0] = 0
    a = a.astype(dtype)
    together = answer("inv_root", {"a": a}, r=4, **added)
    for i, one in enumerate(a):
        alone = answer("inv_root", {"a": one[None]}, r=4, **added)
        np.testing.assert_array_equal(alone.outputs[0][0], together.outputs[0][i])
        assert alone.certificates[0] == together.certificates[i]


@pytest.mark.parametrize("beside", ["zero", "negative", "on a threshold"])
@pytest.mark.parametrize("order", [1, 5, 48, 70])
@pytest.mark.parametrize(("function", "keywords"), [("inv_root", {"r": 3}), ("root", {"r": 2}), ("sqrt_pair", {})])
def test_estimates_of_isolated_numbers_do_not_depend_on_others(
    function: str, keywords: dict[str, Any], order: int, beside: str
) -> None:
    """A matrix that is left to another program, in double precision, has the others rounded no second time."""
    others = {
        "zero": np.zeros((order, order)),
        "negative": -np.eye(order) - np.ones((order, order)),
        "on a threshold": np.diag(np.geomspace(1e-12, 1, order)),
    }
    a = np.stack([1.5 * np.eye(order), others[beside]]).astype(np.float32)

    alone = answer(function, {"a": a[:1]}, on_failure="nan", **keywords)
    together = answer(function, {"a": a}, on_failure="nan", **keywords)

    assert together.certificates[0] == alone.certificates[0]
    assert all(np.array_equal(x[0], y[0]) for x, y in zip(together.outputs, alone.outputs, strict=True))


@pytest.mark.parametrize("order", [3, 70])
def test_numbers_that_count_as_zero_stay_zero(order: int) -> None:
    """With damping="range" a number below 8 eps of the largest has the power 0."""
    a = np.diag(np.r_[np.ones(order - 1), 1e-16])[None]
    (x,) = answer("inv_root", {"a": a}, r=2, damping="range").outputs[0]
    np.testing.assert_array_equal(x, np.diag(np.r_[np.ones(order - 1), 0.0]))


@pytest.mark.parametrize("exponent", [-300, -40, 40, 300])
def test_powers_far_from_one(exponent: int) -> None:
    """Numbers near the ends of the range of float64 have their powers to an ulp."""
    a = np.diag(np.array([3.0, 0.7, 1.9]) * 10.0**exponent)[None]
    for r, s in ((4, 1), (3, 2), (1, 1)):
        found = answer("inv_root", {"a": a}, r=r, s=s, on_failure="nan")
        if found.certificates[0].outcome == "converged":
            _assert_exact(found, a[0].diagonal(), [(-s, r)])


@pytest.mark.parametrize("with_g", [False, True])
@pytest.mark.parametrize("s", [1, 3])
@pytest.mark.parametrize("function", ["root", "inv_root"])
def test_numbers_between_coupled_ones_that_count_as_zero_stay_zero(function: str, s: int, with_g: bool) -> None:
    """What eigenvectors of others leave of a power that "range" drops is rounding, and no sign that it was kept."""
    a = np.zeros((3, 3, 3))
    a[:, ::2, ::2] = 0.09423828125  # an eigenvalue of 0 and one of 0.188, each with both coordinates
    dropped = 1e-17 * np.array([1.0, 4.0, 9.0])
    a[:, 1, 1] = dropped
    g = {"g": np.broadcast_to(np.eye(3), (3, 3, 3)).copy()} if with_g else {}

    found = answer(function, {"a": a, **g}, r=2, s=s, damping="range")

    assert {certificate.rank for certificate in found.certificates} == {1}
    kept = 0.188476562 ** ((1 if function == "root" else -1) * s / 2)
    assert np.abs(found.outputs[0][:, 1]).max() <= 1e-10 * kept
    assert np.abs(found.outputs[0][:, :, 1]).max() <= 1e-10 * kept
