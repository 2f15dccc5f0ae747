"""The libraries that compute are those of the plan, which are those of the profile."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
import torch

from evaluating import parsed
from matfn_kernels import compute, make_plan
from matfn_kernels.linalg import backends, invariant, onednn
from matfn_kernels.linalg.backends import ALL_OPENBLAS, NEVER, ONEDNN, TORCHS_OWN, Backends, using
from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.lapack import Blas
from matfn_kernels.programs import calibration
from matfn_kernels.programs.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator

MIXED: Final = Backends(
    (
        ("openblas", "cholesky", "float32", 32),
        ("openblas", "eigh", "float64", 256),
        ("onednn", "products", "float32", 128),
    )
)

pytestmark = pytest.mark.usefixtures("forced_blas", "own_choice")


@pytest.fixture
def own_choice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plans choose the backends, even where the session was asked for one."""
    monkeypatch.setattr(backends, "chosen", backends._chosen.get)


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[Blas]]:
    """The libraries that the test's calls of BLAS and LAPACK took."""
    if not lapack.is_ready():
        pytest.skip("without the kernels in C torch chooses its library")
    found: set[Blas] = set()
    choose = lapack.blas_for

    def noting(chosen: Backends, routine: backends.Routine, dtype: torch.dtype, order: int) -> Blas:
        found.add(choose(chosen, routine, dtype, order))
        return choose(chosen, routine, dtype, order)

    monkeypatch.setattr(lapack, "blas_for", noting)
    lapack._settings.cache_clear()
    yield found
    lapack._settings.cache_clear()


@pytest.mark.parametrize(
    ("library", "routine", "dtype", "least"),
    [
        ("openblas", "cholesky", torch.float32, 32),
        ("openblas", "cholesky", torch.float64, NEVER),
        ("openblas", "eigh", torch.float64, 256),
        ("onednn", "products", torch.float32, 128),
        ("openblas", "products", torch.float32, NEVER),
        ("openblas", "others", torch.complex128, NEVER),
    ],
)
def test_least_order_is_the_rows(
    library: backends.Library, routine: backends.Routine, dtype: torch.dtype, least: int
) -> None:
    """A routine without a row stays with torch's own library at every order."""
    assert MIXED.least(library, routine, dtype) == least


def test_equal_backends_hash_alike_in_another_process() -> None:
    """They are found again in a worker's caches after their way there."""
    assert pickle.loads(pickle.dumps(MIXED)) == MIXED  # noqa: S301 - written on the same line
    assert hash(pickle.loads(pickle.dumps(MIXED))) == hash(MIXED)  # noqa: S301


@pytest.mark.parametrize("rows", [ALL_OPENBLAS, TORCHS_OWN], ids=["openblas", "torch's own"])
def test_plans_compute_with_the_backends_of_their_profile(called: set[Blas], rows: Backends) -> None:
    """A profile that names OpenBLAS for everything has each product and decomposition computed by it, and none else."""
    profile = replace(Profile.nominal(), backends=rows)
    a = torch.eye(40, dtype=torch.float64) * 2 + 0.01
    call = parsed("eig_clip", {"a": a}, {"lo": 0.0})

    compute("eig_clip", {"a": a}, {"lo": 0.0}, {}, profile=profile)

    assert make_plan(call, profile).backends == rows
    assert called == {Blas.OPENBLAS if rows is ALL_OPENBLAS or Blas.MKL not in lapack.libraries() else Blas.MKL}


def test_backends_belong_to_a_thread() -> None:
    """Two threads may compute plans of two profiles at once."""
    with using(ONEDNN), ThreadPoolExecutor(1) as pool:
        assert pool.submit(backends.chosen).result() == TORCHS_OWN
        assert backends.chosen() == ONEDNN
    assert backends.chosen() == TORCHS_OWN


def test_onednn_serves_from_its_least_order() -> None:
    """Smaller products, and products of other dtypes, stay with BLAS."""
    small, large = torch.ones(1, 127, 127), torch.ones(1, 128, 128)
    with using(MIXED):
        assert [onednn.serves(x, x) for x in (small, large, large.double())] == [False, onednn.is_built(), False]
    assert not onednn.serves(large, large)


@pytest.mark.parametrize(("faster_from", "expected"), [(32, 32), (128, 128), (1024, None)])
def test_measured_backend_is_faster_at_every_order_from_its_least(
    monkeypatch: pytest.MonkeyPatch, faster_from: int, expected: int | None
) -> None:
    """The row names the least order from which the library always wins; there is none if it never does."""
    monkeypatch.setattr(lapack, "is_ready", lambda: True)
    monkeypatch.setattr(
        calibration,
        "_routine_seconds",
        lambda _routine, _dtype, order, tried: 1.0 if tried is TORCHS_OWN or order < faster_from else 0.5,
    )

    row = calibration._backend("openblas", "eigh", "float64")

    assert row == (None if expected is None else ("openblas", "eigh", "float64", expected))


def test_every_backend_gives_the_same_answer_to_rounding() -> None:
    """The library changes bits and no digit that the certificate counts."""
    a = torch.randn(3, 160, 160, generator=torch.Generator().manual_seed(3), dtype=torch.float32)
    a = a @ a.mT / 160 + torch.eye(160)
    found = []
    for rows in (TORCHS_OWN, ALL_OPENBLAS, ONEDNN):
        with using(rows):
            found.append(invariant.cholesky(a)[0].tril() @ invariant.cholesky(a)[0].tril().mT)

    assert all(torch.allclose(one, a, rtol=0, atol=1e-4) for one in found)
