"""Operations whose result for one matrix depends on that matrix alone."""

from __future__ import annotations

import ast
import itertools
import math
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeGuard

import pytest
import torch

import matfn_kernels
from machines import force_blas
from matfn_kernels.linalg import invariant, onednn, single_thread
from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.single_thread import _counts, one_thread

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Operation = Callable[[Tensor], tuple[Tensor, ...]]

DTYPES: Final = tuple(lapack.KINDS)
ORDERS: Final = (1, 7, 9, 16, 33)


@pytest.fixture(params=["mkl", "openblas", "torch"], autouse=True)
def library(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test with MKL, with OpenBLAS and without the kernels in C."""
    if request.param == "torch":
        monkeypatch.setattr(lapack, "is_ready", lambda: False)
        monkeypatch.setattr(invariant, "library", lambda: None)
    force_blas(monkeypatch, "openblas" if request.param == "openblas" else "mkl")


def random(*shape: int, dtype: torch.dtype = torch.float64, seed: int = 1) -> Tensor:
    """Gaussian numbers."""
    return torch.randn(shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def hermitian(a: Tensor) -> Tensor:
    """(A + A^H) / 2."""
    return (a + a.mH) / 2


def definite(a: Tensor) -> Tensor:
    """A A^H + I, the same for each matrix wherever it is."""
    return hermitian(torch.stack([one @ one.mH for one in a])) + torch.eye(a.shape[-1], dtype=a.dtype)


def factor(a: Tensor) -> Tensor:
    """A lower triangle far from singular."""
    return a.tril(-1) / a.shape[-1] + torch.eye(a.shape[-1], dtype=a.dtype)


OPERATIONS: Final[dict[str, Operation]] = {
    "product": lambda a: (invariant.product(a, a),),
    "product of the adjoint": lambda a: (invariant.product(a.mH, a),),
    "product by the transpose": lambda a: (invariant.product(a, a.mT),),
    "product of few rows": lambda a: (invariant.product(a[:, :1], a),),
    "product with a shared matrix": lambda a: (invariant.product(a.new_ones(3, a.shape[-1]), a),),
    "product with addition": lambda a: (invariant.product(a, a, a.clone(), alpha=0.5, beta=2.0),),
    "eigh": lambda a: invariant.eigh(hermitian(a)),
    "svd": invariant.svd,
    "svd of tall": lambda a: invariant.svd(a[:, :, :-2]) if a.shape[-1] > 2 else (a,),
    "singular_values": lambda a: (invariant.singular_values(a),),
    "singular_values of wide": lambda a: (invariant.singular_values(a[:, :-2]),) if a.shape[-1] > 2 else (a,),
    "cholesky": lambda a: invariant.cholesky(definite(a)),
    "cholesky_solve": lambda a: (invariant.cholesky_solve(a, factor(a)),),
    "solve_triangular": lambda a: (invariant.solve_triangular(factor(a), a, upper=False),),
    "solve_triangular above": lambda a: (invariant.solve_triangular(factor(a).mH, a[:, :, :1], upper=True),),
    "inverse": lambda a: (invariant.inverse(definite(a)),),
    "row_norm": lambda a: (invariant.row_norm(a),),
    "matrix_norm": lambda a: (invariant.matrix_norm(a), invariant.matrix_norm(a.mT, torch.float64)),
    "sums": lambda a: (invariant.sums(a.real), invariant.sums(a.real.mT)),
    "peak": lambda a: (invariant.peak(a), invariant.peak(a.mT)),
    "triangle_peak": lambda a: tuple(
        invariant.triangle_peak(a, lower=lower, strict=strict) for lower in (True, False) for strict in (True, False)
    ),
    "multiples": lambda a: invariant.multiples(
        a.real, torch.arange(a.shape[1], dtype=torch.float64).expand(len(a), -1)
    ),
    "divided": lambda a: (invariant.divided(a, invariant.row_norm(a)[..., None]),),
    "magnitude": lambda a: (invariant.magnitude(a),),
    "power": lambda a: (invariant.power(a.real.abs(), -0.3), invariant.power(a.real.abs().mT, 0.25)),
    "exp": lambda a: (invariant.exp(a.real), invariant.exp2(a.real)),
    "ldexp": lambda a: (invariant.ldexp(a.real, torch.arange(a.shape[-1])),),
}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.float16], ids=str)
@pytest.mark.parametrize("flaw", [None, math.inf, -math.inf, math.nan])
def test_peaks_are_the_largest_magnitudes(dtype: torch.dtype, flaw: float | None) -> None:
    """An infinity is the largest number, and NaN is the largest of all; of a triangle only its entries count."""
    a = random(3, 9, 9, dtype=torch.float32).to(dtype)
    if flaw is not None:
        a[1, 7, 2] = flaw

    torch.testing.assert_close(invariant.peak(a), a.abs().amax((-2, -1)), rtol=0, atol=0, equal_nan=True)
    for lower, strict in itertools.product((True, False), (True, False)):
        part = torch.tril(a, -int(strict)) if lower else torch.triu(a, int(strict))
        found = invariant.triangle_peak(a, lower=lower, strict=strict)
        torch.testing.assert_close(found, part.abs().amax((-2, -1)), rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("rows", [1, 5, 35])
def test_multiples_are_rounded_once(dtype: torch.dtype, rows: int) -> None:
    """Products in float64 are rounded to the dtype of the numbers, and their largest magnitude is known."""
    x, factors = random(2, 5, 7, 3, dtype=torch.float64).to(dtype), random(2, rows, dtype=torch.float64)

    found, peak = invariant.multiples(x, factors)

    exact = (x.double().reshape(2, rows, -1) * factors[..., None]).reshape(x.shape)
    assert torch.equal(found, exact.to(dtype))
    assert torch.equal(peak, found.abs().flatten(1).amax(-1))


def moved(a: Tensor, by: int) -> Tensor:
    """The same numbers so many numbers further in memory."""
    room = a.new_empty(a.numel() + by)
    return room[by:].view(a.shape).copy_(a)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
@pytest.mark.parametrize("order", ORDERS)
def test_a_matrix_has_the_same_result_in_any_batch_and_place(name: str, dtype: torch.dtype, order: int) -> None:
    """Each of seven matrices gives the same bits alone, among others, and from any address."""
    operation = OPERATIONS[name]
    batch = random(7, order, order, dtype=dtype)
    together = operation(batch)
    for place in range(7):
        alone = operation(moved(batch[place : place + 1], place))
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(one[0], other[place], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "name", ["product", "eigh", "svd", "singular_values", "cholesky", "inverse", "solve_triangular"]
)
def test_the_number_of_threads_changes_no_bit(name: str, dtype: torch.dtype) -> None:
    """One to four threads give the same, on matrices large enough to be worth several."""
    batch, before, found = random(3, 300, 300, dtype=dtype), torch.get_num_threads(), []
    for threads in (1, 2, 3, 4):
        torch.set_num_threads(threads)
        with one_thread():
            found.append(OPERATIONS[name](batch))
    torch.set_num_threads(before)

    for other in found[1:]:
        assert all(map(torch.equal, found[0], other))


def test_one_thread_counts_and_puts_back() -> None:
    """Within the block, and in a block in it, torch has one thread; after it as many as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    with one_thread():
        within = torch.get_num_threads()
        with one_thread():
            pass
        still = torch.get_num_threads()
    after = torch.get_num_threads()
    torch.set_num_threads(before)

    assert (within, still, after) == (1, 1, 3)


def test_several_threads_at_once_have_one_each() -> None:
    """OpenBLAS has one count for the process: it is one for whoever computes, and put back after the last."""
    before = [count.get() for count in _counts()]
    for count in _counts():
        count.set(2)

    def within(_: int) -> list[int]:
        with one_thread():
            return [count.get() for count in _counts()]

    with one_thread():  # from the main thread first: whoever comes first must not keep the others out
        pass
    with ThreadPoolExecutor(3) as threads:
        seen = list(threads.map(within, range(300)))
    after = [count.get() for count in _counts()]
    for count, number in zip(_counts(), before, strict=True):
        count.set(number)

    assert before
    assert all(number == 1 for numbers in seen for number in numbers)
    assert set(after) == {2}


def test_an_error_within_puts_back_too() -> None:
    """Threads are put back where the computation raises."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    with pytest.raises(MemoryError), one_thread():
        raise MemoryError
    after = torch.get_num_threads()
    torch.set_num_threads(before)

    assert after == 2


def test_an_interrupt_on_the_way_in_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while threads are being set is no reason to compute on several later."""

    def interrupted(self: single_thread._ProcessWide) -> None:
        enter(self)
        raise KeyboardInterrupt

    enter = single_thread._ProcessWide.enter
    before = [count.get() for count in _counts()]
    with monkeypatch.context() as patch:
        patch.setattr(single_thread._ProcessWide, "enter", interrupted)
        with pytest.raises(KeyboardInterrupt), one_thread():
            raise AssertionError
    for count in _counts():
        count.set(2)

    with one_thread():
        within = [count.get() for count in _counts()]
    after = [count.get() for count in _counts()]
    for count, number in zip(_counts(), before, strict=True):
        count.set(number)

    assert set(within) == {1}
    assert set(after) == {2}


FORKED = """
import os, numpy as np, torch, matfn
torch.set_num_threads(2)
client, a = matfn.LocalClient(), np.stack([np.eye(200)] * 4)
expected = client.inv_root(a, r=4)
child = os.fork()
if child == 0:
    os._exit(0 if np.array_equal(client.inv_root(a, r=4), expected) else 1)
raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")
def test_a_forked_child_computes() -> None:
    """A child has none of the threads that its parent had computed with, and waits for none."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORKED], capture_output=True, text=True, check=False, timeout=50
    )

    assert done.returncode == 0, done.stderr


def close(found: Tensor, exact: Tensor) -> None:
    """Equal but for rounding."""
    assert found.shape == exact.shape
    scale = 1e3 * torch.finfo(found.dtype).eps * max(1, found.shape[-1])
    torch.testing.assert_close(found, exact, rtol=scale, atol=scale)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("order", ORDERS)
def test_results_are_those_of_the_definitions(order: int, dtype: torch.dtype) -> None:
    """Products, decompositions and solutions reproduce what they are made of."""
    a, m = random(3, order, order, dtype=dtype), random(3, order + 2, order, dtype=dtype)
    symmetric, positive, lower = hermitian(a), definite(a), factor(a)
    w, v = invariant.eigh(symmetric)
    u, sigma, vh = invariant.svd(m)
    left, exists = invariant.cholesky(positive)

    close(invariant.product(m, a), torch.matmul(m, a))
    close(invariant.product(a.mH, m.mT), torch.matmul(a.mH, m.mT))
    close(invariant.product(m, a, m.clone(), alpha=0.5, beta=2.0), 2 * m + torch.matmul(m, a) / 2)
    close(torch.matmul(v * w[:, None, :], v.mH), symmetric)
    close(torch.matmul(u * sigma[:, None, :], vh), m)
    close(invariant.singular_values(m), sigma)
    close(invariant.singular_values(m.mH), sigma)
    close(torch.matmul(left, left.mH), positive)
    close(torch.matmul(lower, invariant.solve_triangular(lower, a, upper=False)), a)
    close(torch.matmul(lower.mH, invariant.solve_triangular(lower.mH, a, upper=True)), a)
    close(torch.matmul(positive, invariant.inverse(positive)), torch.eye(order, dtype=dtype).expand_as(a))
    assert exists.all()
    assert torch.equal(left, left.tril())


@pytest.mark.parametrize("order", [9, 70])
@pytest.mark.parametrize("flaw", [float("nan"), float("inf")])
def test_a_matrix_without_a_decomposition_spoils_no_other(flaw: float, order: int) -> None:
    """NaN and infinities give NaN, and the other matrices the decompositions that they have alone."""
    a = definite(random(3, order, order))
    flawed = a.clone()
    flawed[1, 2, 2] = flaw

    values: Operation = OPERATIONS["singular_values"]
    for operation in (invariant.eigh, invariant.svd, values, lambda x: (invariant.inverse(x),)):
        found, right = operation(flawed), operation(a)
        assert all(part[1].isnan().all() for part in found)
        assert all(torch.equal(one[[0, 2]], other[[0, 2]]) for one, other in zip(found, right, strict=True))
    assert invariant.cholesky(flawed)[1].tolist() == [True, False, True]


def test_an_indefinite_matrix_has_no_factor_and_a_singular_one_no_inverse() -> None:
    """Said of each matrix."""
    a = torch.stack([torch.eye(3), -torch.eye(3), torch.zeros(3, 3)]).to(torch.float64)

    assert invariant.cholesky(a)[1].tolist() == [True, False, False]
    assert invariant.inverse(a).isfinite().all(-1).all(-1).tolist() == [True, True, False]


@pytest.mark.parametrize("shape", [(0, 3, 3), (2, 0, 3), (2, 3, 0)])
def test_an_empty_product_is_empty_or_zero(shape: tuple[int, int, int]) -> None:
    """Also over an empty inner dimension."""
    x = torch.ones(shape, dtype=torch.float64)

    assert torch.equal(invariant.product(x, x.mT), torch.matmul(x, x.mT))


@pytest.mark.parametrize("shape", [(7, 1), (1, 7), (1, 1), (300, 1), (1, 300)], ids=str)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex128], ids=str)
def test_the_stride_of_a_single_row_or_column_changes_no_bit(shape: tuple[int, int], dtype: torch.dtype) -> None:
    """A transposed row is the same matrix as a column, and a conjugated one its conjugate."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *shape, generator=generator, dtype=dtype)
    turned = x.mT.contiguous().mT
    conjugated = x.mH.resolve_conj().contiguous().mH
    y = torch.randn(3, shape[1], 5, generator=generator, dtype=dtype)

    expected = [invariant.product(x, y), invariant.product(x, x.mH), invariant.product(x.mH, x)]

    for other in (turned, conjugated):
        found = [invariant.product(other, y), invariant.product(other, other.mH), invariant.product(other.mH, other)]
        assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.complex64, torch.complex128])
@pytest.mark.parametrize("order", [16, 33, 64])
@pytest.mark.parametrize("turned", [False, True])
def test_a_factor_of_several_matrices_is_stored_as_that_of_one(dtype: torch.dtype, order: int, *, turned: bool) -> None:
    """A factor, also a transposed one, that broadcasts over others gives each product the bits that it has alone."""
    generator = torch.Generator().manual_seed(order)
    many = torch.randn(3, 4, order, order, generator=generator, dtype=torch.float64).to(dtype)
    one = torch.randn(3, 1, order, order, generator=generator, dtype=torch.float64).to(dtype)
    if turned:
        one = one.mH

    for left, right in ((many, one), (one, many)):
        together = invariant.product(left, right)
        for place in range(3):
            alone = invariant.product(left[place : place + 1], right[place : place + 1])
            assert torch.equal(alone[0], together[place])


def test_onednn_serves_large_products_alike() -> None:
    """Its products are the same bits alone and among others, on any number of threads."""
    batch, before, found = random(3, 257, 257, dtype=torch.float32), torch.get_num_threads(), []
    for threads in (1, 2, 4):
        torch.set_num_threads(threads)
        with one_thread():
            found.append(onednn.product(batch, batch))
            found.append(torch.cat([onednn.product(moved(batch[i : i + 1], i), batch[i : i + 1]) for i in range(3)]))
    torch.set_num_threads(before)

    close(found[0], torch.matmul(batch, batch))
    assert all(torch.equal(found[0], other) for other in found[1:])


KERNELS: Final = Path(matfn_kernels.__file__).parent
BY_ARRAY: Final = {
    *(
        "linalg/sylvester_operator",
        "linalg/congruent_operator",
        "numbers/arrays",
        "numbers/extended_product",
        "numbers/modular",
        "methods/sign/newton_schur",
    ),
    *("methods/sign/by_parts", "methods/sign/one_by_one"),
    *(f"methods/roots/{name}" for name in ("general", "schur_form", "triangular_power", "semisimple", "least")),
    *(
        f"methods/general_functions/{name}"
        for name in ("by_schur", "near_identity", "nilpotent", "root_chain", "triangular")
    ),
    *(f"methods/equations/{name}" for name in ("sylvester", "riccati", "riccati_terms", "doubling", "newton_kleinman")),
    *(f"methods/equations/{name}" for name in ("stabilisability", "continuous", "discrete", "linear", "gains")),
}
"""Modules that take one matrix at a time, as an array."""
FORBIDDEN: Final = {
    *("bmm", "matmul", "einsum", "mv", "dot", "vdot", "cholesky_ex", "cholesky_solve", "solve_triangular", "inv_ex"),
    *("matrix_norm", "vector_norm", "matrix_power", "exp2", "log2", "hypot", "ldexp", "pow", "logsumexp", "std"),
}


def place(path: Path) -> str:
    """Where a module lies in the package."""
    return path.relative_to(KERNELS).with_suffix("").as_posix()


def calls_of_torch(path: Path) -> list[str]:
    """Names of operations whose results torch lets depend on the batch, used in a module."""
    tree = ast.parse(path.read_text())
    found = [
        f"{path.name}:{node.lineno} @" for node in ast.walk(tree) if is_product(node) and place(path) not in BY_ARRAY
    ]
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, owner = node.func.attr, ast.unparse(node.func.value)
            if name in FORBIDDEN and owner.startswith("torch"):
                found.append(f"{path.name}:{node.lineno} {owner}.{name}")
    return found


def is_product(node: ast.AST) -> TypeGuard[ast.BinOp]:
    """Whether it is X @ Y."""
    return isinstance(node, ast.BinOp) and isinstance(node.op, ast.MatMult)


def test_kernels_take_such_operations_from_one_module() -> None:
    """Only `invariant`, the reference and what runs on a GPU call torch's products, norms and powers of batches."""
    others = ("linalg/invariant", "reference", "linalg/products", "linalg/triton/")
    paths = [path for path in KERNELS.rglob("*.py") if not place(path).startswith(others)]

    assert len(paths) > len(others)
    assert [call for path in paths for call in calls_of_torch(path)] == []
