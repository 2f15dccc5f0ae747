"""The kernels in C: honest estimates and independence of the batch, for every instruction set of this processor."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING, Any

import mpmath
import numpy as np
import pytest
import torch

from evaluating import EPS, Answer, Array, answer, candidates, parsed, run, truth
from honesty import assert_honest, estimate_of, reference_errors
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg import probes
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.linalg.native.library import library
from matfn_kernels.methods.roots.coupled_power import NativePower
from matfn_kernels.methods.roots.natively import _wanted, natively
from matfn_kernels.programs.profile import Profile
from matfn_kernels.reference import relative_error
from matfn_kernels.running.plan import make_plan
from spectra import SHAPES, positive
from variants import VARIANTS, use

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from matfn_kernels.programs.validation import Call

pytestmark = pytest.mark.skipif(not native.is_built(), reason="installed without a C compiler")

CALLS: list[tuple[str, dict[str, Any]]] = [
    ("root", {"r": 2}),
    ("root", {"r": 5, "s": 3}),
    ("inv_root", {"r": 1}),
    ("inv_root", {"r": 4}),
    ("inv_root", {"r": 12, "s": 5}),
    ("inv_root", {"r": 2, "s": 6}),
    ("sqrt_pair", {}),
]
OTHERS = ("nan", "infinite", "largest", "zero", "indefinite", "singular", "skew", "diverging", "tiny")


def _by_kernels(function: str, inputs: dict[str, Array], **keywords: Any) -> tuple[NativePower, Call]:
    """The program of the kernels in C for a call."""
    (found,) = [
        (program, call)
        for program, call in candidates(function, inputs, on_failure="nan", **keywords)
        if isinstance(program, NativePower)
    ]
    return found


def _errors(found: Answer, expected: tuple[Array, ...]) -> Array:
    errors: Array = np.max([relative_error(x, y) for x, y in zip(found.outputs, expected, strict=True)], axis=0)
    return errors


@pytest.mark.sampled(2)
@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("order", [1, 2, 16, 33, 70, 129])
def test_single_precision_is_honest(order: int) -> None:
    """Every estimate is at least the error, for any spectrum and power, with double precision behind or not."""
    conditions = (1.0, 3.0, 30.0, 1e3, 1e5, 2e6) if order < 100 else (30.0, 1e4)
    spectra = [positive(order, shape, condition) for shape in SHAPES for condition in conditions]
    a = np.concatenate(spectra).astype(np.float32)
    certified = 0
    for function, keywords in CALLS:
        for precision in ("auto", "fp32"):
            found = run(*_by_kernels(function, {"a": a}, precision=precision, **keywords))

            expected = truth(function, {"a": a}, found.certificates, **keywords)
            estimated = range(len(a) // 2, len(a) + 1)
            assert_honest(found, *expected, estimated=estimated, slack=reference_errors(found.certificates))
            certified += sum(c.method == "engine" and c.error_estimate is not None for c in found.certificates)
    assert certified > len(a) * len(CALLS)


@cache
def _spectrum(order: int, condition: float) -> tuple[Array, Any, Any]:
    """A matrix and its eigenvalues and vectors in 40 digits."""
    a = positive(order, condition=condition, seed=order)[0]
    with mpmath.workdps(40):
        return a, *mpmath.eigsy(mpmath.matrix(a.tolist()))


@cache
def _exact(order: int, condition: float, s: int, r: int) -> Array:
    """A power of it, rounded once."""
    _, values, vectors = _spectrum(order, condition)
    with mpmath.workdps(40):
        power = vectors * mpmath.diag([value ** (mpmath.mpf(s) / r) for value in values]) * vectors.T
    return np.array(power.tolist(), dtype=np.float64)[None]


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("order", [1, 3, 9])
@pytest.mark.parametrize("condition", [1.0, 10.0, 1e4, 1e7])
def test_double_precision_is_honest(order: int, condition: float) -> None:
    """Estimates near 1e-15 hold against 40 digits."""
    a = _spectrum(order, condition)[0][None]
    for function, keywords in CALLS:
        s, r = keywords.get("s", 1), keywords.get("r", 2)
        signs = {"root": (1,), "inv_root": (-1,), "sqrt_pair": (1, -1)}[function]
        found = run(*_by_kernels(function, {"a": a}, **keywords))

        assert_honest(found, *(_exact(order, condition, sign * s, r) for sign in signs))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [8, 16, 64])
@pytest.mark.parametrize("smallest", [1e-1, 1e-2, 1e-3, 1e-5])
def test_unseen_eigenvector_is_answered_for(order: int, dtype: str, smallest: float) -> None:
    """A small eigenvalue whose vector none of the columns sees is as well resolved as any other."""
    rng = np.random.default_rng(order)
    q, _ = np.linalg.qr(np.hstack([probes.columns(order).numpy(), rng.standard_normal((order, order - 4))]))
    eye = np.eye(order)
    a = (eye - (1 - smallest) * np.outer(q[:, -1], q[:, -1]))[None].astype(dtype)
    a = (a + a.swapaxes(1, 2)) / 2
    for function, keywords in CALLS[2:4]:
        found = run(*_by_kernels(function, {"a": a}, **keywords))

        expected = truth(function, {"a": a}, found.certificates, **keywords)
        assert_honest(found, *expected, slack=20 * EPS["float64"] / smallest)


def _other(kind: str, good: Tensor) -> Tensor:
    """A matrix that has no answer, or one far from it."""
    order, limits = len(good), torch.finfo(good.dtype)
    eye = torch.eye(order, dtype=good.dtype)
    skew = torch.triu(torch.ones_like(good), 1) - torch.tril(torch.ones_like(good), -1)
    return {
        "nan": torch.where(eye > 0, torch.nan, good),
        "infinite": torch.full_like(good, torch.inf),
        "largest": torch.full_like(good, limits.max),
        "zero": 0 * good,
        "indefinite": good - 0.5 * eye,
        "singular": torch.ones_like(good),
        "skew": skew + torch.diag(limits.tiny**0.52 * torch.linspace(-1, 1, order, dtype=good.dtype)),
        "diverging": torch.diag(torch.linspace(1, 1e-4, order, dtype=good.dtype)),
        "tiny": limits.smallest_normal * 2.0**-20 * good,
    }[kind]


def _powers(good: Tensor) -> native.Powers:
    """The pair of square roots, by a schedule that diverges where the condition is 1e4."""
    program, _ = _by_kernels("sqrt_pair", {"a": good.numpy()})
    usual = _wanted(program.iteration)
    wild = ((1e-2, usual.schedules.entries[3][1]), (usual.bound, ((1e30, 1e30, 1e30),) * 4))
    return replace(usual, schedules=native.Schedules(wild))


def _bits(found: tuple[tuple[Tensor, ...], native.PowerFindings], item: int) -> tuple[bytes, ...]:
    """All that is returned of one matrix."""
    outputs, findings = found
    columns = [getattr(findings, name) for name in native.PowerFindings.__slots__]
    return tuple(part[item].numpy().tobytes() for part in (*outputs, *columns))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("kind", OTHERS)
@pytest.mark.parametrize("order", [2, 5, 17, 40])
def test_other_matrix_changes_no_bit(kind: str, dtype: str, order: int) -> None:
    """A matrix has the same answer alone and after any other matrix in the same buffers."""
    good = torch.from_numpy(positive(order, condition=10, items=2).astype(dtype))
    wanted, bad = _powers(good), _other(kind, good[0])[None]
    batch = torch.cat([good[:1], bad, good[1:], bad, good[:1]])

    found = native.powers(wanted, batch)

    alone = [_bits(native.powers(wanted, one[None]), 0) for one in good]
    assert [_bits(found, item) for item in (0, 2, 4)] == [*alone, alone[0]]
    assert bool(torch.isfinite(found[0][0][0]).all())
    assert kind == "tiny" or not bool(torch.isfinite(found[1].residual[1]))


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("order", [1, 7, 33, 70])
def test_place_and_threads_change_no_bit(dtype: str, order: int) -> None:
    """Alone or anywhere among others, on one thread or several: the same bits, certificates included."""
    usual = torch.get_num_threads()
    conditions = (1.0, 10.0, 1e2, 1e3, 1e4)
    a = np.concatenate([positive(order, condition=c) for c in conditions]).astype(dtype)
    for function, keywords in CALLS[1::2]:
        found = run(*_by_kernels(function, {"a": a}, **keywords))
        try:
            torch.set_num_threads(3)
            together = run(*_by_kernels(function, {"a": a[::-1].copy()}, **keywords))
        finally:
            torch.set_num_threads(usual)
        alone = [run(*_by_kernels(function, {"a": one[None]}, **keywords)) for one in a]

        for k, output in enumerate(found.outputs):
            np.testing.assert_array_equal(output, together.outputs[k][::-1])
            np.testing.assert_array_equal(output, np.concatenate([one.outputs[k] for one in alone]))
        assert found.certificates == together.certificates[::-1]
        assert found.certificates == tuple(one.certificates[0] for one in alone)


@pytest.mark.usefixtures("instructions")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_powers_of_two_cost_no_bit(dtype: str) -> None:
    """Of 2^(3 k) A the cube root is 2^k times that of A, to the bit, at either end of the range."""
    a = 2 * positive(9, condition=10).astype(dtype)
    usual = run(*_by_kernels("root", {"a": a}, r=3))
    for k in (-30, 40) if dtype == "float32" else (-320, 330):
        found = run(*_by_kernels("root", {"a": np.ldexp(a, 3 * k)}, r=3))

        np.testing.assert_array_equal(found.outputs[0], np.ldexp(usual.outputs[0], k))
        assert found.certificates == usual.certificates


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("function", "keywords"), CALLS)
@pytest.mark.parametrize("order", [3, 31, 65])
def test_variants_agree(function: str, keywords: dict[str, Any], dtype: str, order: int) -> None:
    """What instruction sets make of a matrix differs by no more than its estimates allow."""
    usual = native.variant()
    pair = _by_kernels(function, {"a": positive(order, condition=50, items=2).astype(dtype)}, **keywords)
    found = [run(*pair) for name in VARIANTS if use(name)]
    use(usual)

    for other in found[1:]:
        for x, y in zip(found[0].outputs, other.outputs, strict=True):
            estimates = [estimate_of(one, i) for one in (found[0], other) for i in (0, 1)]
            assert relative_error(x, y.astype(np.float64)).max() <= 2 * max(estimates)


@pytest.mark.parametrize(("function", "keywords"), CALLS)
def test_schedule_follows_the_matrix(function: str, keywords: dict[str, Any]) -> None:
    """The better the condition the fewer the steps, each matrix of a batch having its own."""
    a = np.concatenate([positive(20, condition=condition) for condition in (2.0, 1e2, 1e4)])

    found = run(*_by_kernels(function, {"a": a}, precision="fp64", tol=1e-2, **keywords))

    steps = [certificate.steps for certificate in found.certificates]
    assert [certificate.method for certificate in found.certificates] == ["engine"] * 3
    assert steps[0] < steps[1] < steps[2]


def test_layout_changes_no_bit() -> None:
    """Strides, a bit that negates and a default device elsewhere are nothing to the kernels."""
    a = torch.from_numpy(positive(12, condition=30, items=3))
    program, _ = _by_kernels("sqrt_pair", {"a": a.numpy()})
    wide = torch.zeros(3, 24, 24, dtype=a.dtype)
    wide[:, ::2, ::2] = a
    given = [a.mT.contiguous().mT, wide[:, ::2, ::2], torch._neg_view(-a), a[:1].expand(3, 12, 12)]

    usual, _ = natively(program.iteration, a, None)
    found = [natively(program.iteration, one, None)[0] for one in given]
    with torch.device("meta"):
        found.append(natively(program.iteration, a, None)[0])

    for one in found:
        rows = slice(0, 1) if one is found[3] else slice(None)
        assert all(map(torch.equal, (x[rows] for x in one.outputs), (x[rows] for x in usual.outputs)))
        assert torch.equal(one.error[rows], usual.error[rows])


def test_forked_process_has_threads() -> None:
    """A child of a process that had threads for the kernels computes with its own."""
    script = """if True:
        import os, torch
        from matfn_kernels.linalg import native_kernels as native
        schedules = native.Schedules(((1e-6, ((1.875, -1.25, 0.375),) * 3),))
        wanted = native.Powers((0, 1, 2), (1, 2), False, 1e-6, 1e-6, schedules)
        torch.set_num_threads(2)
        a = torch.eye(48).expand(64, 48, 48).contiguous()
        expected = native.powers(wanted, a)[0][0]
        if child := os.fork():
            raise SystemExit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        found = native.powers(wanted, a)[0][0]
        os._exit(found.numpy().tobytes() != expected.numpy().tobytes())
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, timeout=30)

    assert done.returncode == 0


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_torch_serves_without_the_library(monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    """Where nothing was compiled no plan asks for it, and answers are as good."""
    a = positive(24, condition=1e2, items=3).astype(dtype)
    usual = make_plan(parsed("inv_root", {"a": a}, {"r": 4, "damping": 0.0}), _measured()).program
    monkeypatch.setattr("matfn_kernels.linalg.native.library.library", lambda: None)

    plan = make_plan(parsed("inv_root", {"a": a}, {"r": 4}), Profile.nominal())
    found = answer("inv_root", {"a": a}, r=4)

    kernels = {getattr(program, "kernel", None) for program in (plan.program, *(other for other, _ in plan.considered))}
    assert isinstance(usual, NativePower)
    assert Kernel.NATIVE not in kernels
    assert not native.is_built()
    assert {certificate.outcome for certificate in found.certificates} == {"converged"}
    expected = truth("inv_root", {"a": a}, found.certificates, r=4)
    assert_honest(found, *expected, slack=reference_errors(found.certificates))


def _measured() -> Profile:
    """A machine whose kernels in C take no time."""
    rows = Profile.nominal().seconds
    return Profile("quick", (*rows, *(("native", kind, order, 1e-9) for _, kind, order, _ in rows)))


def test_library_of_another_version_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """A library that was compiled with other numbers than it is called with is not used, and a warning says so."""
    monkeypatch.setattr("matfn_kernels.linalg.native.structures.MAX_STEPS", native.MAX_STEPS - 1)
    library.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match="another version"):
            assert not native.is_built()
    finally:
        library.cache_clear()
    monkeypatch.undo()
    assert native.is_built()


def test_damaged_library_is_not_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is no library is left alone, and that is said."""
    (tmp_path / "library.so").write_bytes(b"not one")
    monkeypatch.setattr("matfn_kernels.linalg.native.library._PATH", tmp_path / "library.so")
    library.cache_clear()
    try:
        with pytest.warns(RuntimeWarning, match=r"library\.so is not used"):
            assert not native.is_built()
    finally:
        library.cache_clear()


def test_want_of_memory_is_told() -> None:
    """Where there is no memory for the buffers the call says so, and the next one is served."""
    script = """if True:
        import resource, torch
        from matfn_kernels.linalg import native_kernels as native
        schedules = native.Schedules(((1e-6, ((1.875, -1.25, 0.375),) * 3),))
        wanted = native.Powers((0, 1, 2), (1, 2), False, 1e-6, 1e-6, schedules)
        torch.set_num_threads(1)
        small, large = torch.eye(3)[None], torch.eye(3000, dtype=torch.float64)[None]
        expected = native.powers(wanted, small)[0][0]
        used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 28), used + (1 << 28)))
        try:
            native.powers(wanted, large)
        except MemoryError as error:
            assert "(3000, 3000)" in str(error)
        else:
            raise SystemExit(2)
        assert torch.equal(native.powers(wanted, small)[0][0], expected)
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", script], check=False, timeout=60)

    assert done.returncode == 0
