"""Whole programs by every kernel that can run them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from evaluating import Array, candidates, run, truth
from honesty import assert_honest
from matfn_kernels.contract.certificate import Outcome
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.programs.kernel_prices import Tunable
from spectra import positive, rectangular

_LOW_RANK = np.stack([(g := np.random.default_rng(i).standard_normal((20, 9))) @ g.T for i in range(2)])
CALLS: list[tuple[str, dict[str, Array], dict[str, Any]]] = [
    ("inv_root", {"a": positive(20, items=2)}, {"r": 2}),
    ("root", {"a": positive(20, items=2)}, {"r": 2, "s": 1}),
    ("inv_root", {"a": _LOW_RANK}, {"r": 4, "damping": 1e-2}),
    ("root", {"a": _LOW_RANK}, {"r": 2, "damping": 1e-3}),
    ("inv_root", {"a": _LOW_RANK}, {"r": 2, "shift": 0.1}),
    ("sqrt_pair", {"a": positive(20, items=2)}, {}),
    ("msign", {"m": rectangular((30, 20), items=2)}, {}),
    ("tri_inv", {"t": np.tril(rectangular((40, 40), items=2)) / 4 + np.eye(40)}, {}),
]


@pytest.mark.parametrize(("function", "inputs", "keywords"), CALLS)
@pytest.mark.parametrize("kernel", [Kernel.SYMMETRIC, Kernel.ONE_LAUNCH])
def test_certificates_hold(function: str, inputs: dict[str, Array], keywords: dict[str, Any], kernel: Kernel) -> None:
    """Answers are as accurate as they certify, whichever kernels made them."""
    single = {name: value.astype(np.float32) for name, value in inputs.items()}
    programs = candidates(function, single, **keywords)
    variants = [(v, call) for p, call in programs if isinstance(p, Tunable) for v in p.variants() if v.kernel is kernel]

    for program, call in variants:
        answer = run(program, call)
        outputs = truth(function, single, answer.certificates, **keywords)
        assert_honest(answer, *outputs)
        assert {certificate.outcome for certificate in answer.certificates} == {Outcome.CONVERGED}
        assert {certificate.fallback for certificate in answer.certificates} == {None}
    assert variants or (function == "tri_inv" and kernel is Kernel.SYMMETRIC)
