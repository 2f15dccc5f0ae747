"""Error estimates of certificates against true errors: every function, dtype and method, on inputs that are hard.

Answers are computed in this process, in batches whose matrices differ in spectrum, condition and singular vectors.
Their true values come from extended precision (`certificate_truth`), whose own error is allowed for. One core, some
minutes. The same seed gives the same answers; violations go to the error stream, each with the call that repeats it.

    python benchmarks/study_certificates.py > benchmarks/results/certificates.md
"""

from __future__ import annotations

import argparse
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np
import torch

from certificate_inputs import ORDERS, Sample, arguments_of, sample
from certificate_truth import Exact, Truth
from matfn_kernels import (
    DTYPES,
    FUNCTIONS,
    Certificate,
    Limits,
    Outcome,
    Plan,
    Profile,
    Rejection,
    batch_of,
    evaluate,
    is_built,
    load_profile,
    make_plan,
    parse_call,
    screen,
)
from matfn_kernels.numbers.precision import Precision, spacing
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from numpy.typing import NDArray

__all__ = ["Draw", "Finding", "findings", "pairs"]

Array: TypeAlias = "NDArray[Any]"

ROUNDS: Final = {"root": 15, "inv_root": 15, "sqrt_pair": 12, "msign": 15, "mclip": 15, "polar": 12}
"""Draws of a function and a dtype; `OTHER_ROUNDS` for the functions that are not named."""
OTHER_ROUNDS: Final = 8
_CALLS: Final = 2
"""Calls with other parameters and options on the inputs of one draw."""


_BY_PRECISION: Final = {
    "half": {"float16", "bfloat16"},
    "single": {"float32", "complex64"},
    "double": {"float64", "complex128"},
}
_COLUMNS: Final = (
    *("function", "dtype", "answers", "resolved", "converged", "violations of these", "violations of all"),
    *("estimate/error, median", "99 %", "median of converged", "99 %", "converged of those that should"),
)
_LEGEND: Final = (
    "A violation is a true error, less what the truth may be off by, above the certificate's estimate, or a converged "
    "answer without an estimate. Answers are resolved where the truth is ten times finer than the estimate. In the "
    "ratio of estimate and true error an error below one eps of the answer's norm counts as one eps, that of the dtype "
    "or of a coarser precision in which the answer was computed: no estimate knows which answers rounding spares. It "
    "is over answers with an estimate whose truth is as fine as that, in the second pair of columns over converged "
    "ones. Answers that should converge are those by the default options for inputs that need no flag and whose "
    "condition times 2.2e-16 is below 1e-8."
)


@dataclass(frozen=True, slots=True)
class Draw:
    """What a batch is drawn from; equal draws are equal batches."""

    function: str
    dtype: str
    seed: int
    index: int

    @property
    def generator(self) -> np.random.Generator:
        """Random numbers of its own."""
        place = list(FUNCTIONS).index(self.function), DTYPES.index(self.dtype)
        return np.random.default_rng([self.seed, self.index, *place])


@dataclass(frozen=True, slots=True)
class Finding:
    """One answer beside its truth.

    Attributes:
        draw: the batch that it is of.
        kind: the input in words, with its order and its place in the batch.
        call: parameters and options.
        certificate: of the answer.
        error: relative error in excess of that of the truth itself, at least 0.
        true: relative error.
        of_truth: what the truth itself may be off by, infinite where there is none.
        expected: whether the answer is one that should converge; None where the call's options say otherwise.
    """

    draw: Draw
    kind: str
    call: dict[str, Any]
    certificate: Certificate
    error: float
    true: float
    of_truth: float
    expected: bool

    @property
    def converged(self) -> bool:
        """Whether the certificate says so."""
        return self.certificate.outcome is Outcome.CONVERGED

    @property
    def resolved(self) -> bool:
        """Whether the truth is at least ten times finer than the estimate, or than the answer's error."""
        return self.of_truth <= max(self.certificate.error_estimate or 0.0, self.true) / 10

    @property
    def ratio(self) -> float | None:
        """The estimate over the error, or over one unit of rounding if that is more; None if the truth is coarser."""
        estimate = self.certificate.error_estimate
        computed = spacing(Precision(self.certificate.precision))
        error = max(self.true, computed, torch.finfo(getattr(torch, self.draw.dtype)).eps)
        return None if estimate is None or not self.of_truth <= error else estimate / error

    @property
    def violates(self) -> bool:
        """Whether the error is larger than the estimate, or that of a converged answer is not stated."""
        estimate = self.certificate.error_estimate
        return self.converged if estimate is None else not self.error <= estimate

    def __str__(self) -> str:
        """The finding in one line."""
        c = self.certificate
        return (
            f"{self.draw}: {self.kind}, {self.call}, {c.method} in {c.precision}"
            f"{f' after {c.fallback}' if c.fallback else ''}: {c.outcome}, estimate {c.error_estimate}, "
            f"true error {self.true:.6e}, of which {self.error:.6e} is not the truth's"
        )


def pairs() -> list[tuple[str, str]]:
    """All functions with the dtypes that they take."""
    return [
        (name, dtype)
        for name, dtype in product(FUNCTIONS, DTYPES)
        if FUNCTIONS[name].complex_ok or not dtype.startswith("complex")
    ]


def findings(draw: Draw, orders: Sequence[int] = tuple(ORDERS)) -> Iterator[Finding]:
    """All answers to the calls of a draw by every method that serves them."""
    rng = draw.generator
    weights = np.array([8.0 if order <= 16 else 3.0 if order < 64 else 1.0 for order in orders])  # noqa: PLR2004
    order = int(rng.choice(orders, p=weights / weights.sum()))
    given = sample(draw.function, draw.dtype, order, rng)
    truth = Truth(draw.function, given)
    for _ in range(_CALLS):
        parameters, options = arguments_of(draw.function, draw.dtype, rng)
        if len(given.factors) and draw.function in {"root", "inv_root", "sqrt_pair"}:
            parameters["structure"] = "general"
        for call, plan in _plans(draw.function, given, parameters, options):
            yield from _judged(draw, order, truth, call, plan)


def _plans(
    function: str, given: Sample, parameters: dict[str, Any], options: dict[str, Any]
) -> list[tuple[dict[str, Any], Plan]]:
    """The different plans of a call under every method and profile, each with the arguments that led to it."""
    found: dict[object, tuple[dict[str, Any], Plan]] = {}
    for method, profile in product(("auto", *FUNCTIONS[function].methods), _profiles()):
        arguments = {**options, "method": method}
        try:
            call = parse_call(function, given.inputs, parameters, arguments, Limits())
            plan = make_plan(call, profile)
        except Rejection:
            continue
        found.setdefault((plan.program, plan.backends), ({**parameters, **arguments}, plan))
    return list(found.values())


def _profiles() -> tuple[Profile, ...]:
    """That of this machine, and one by which torch computes all."""
    return (load_profile(), Profile.nominal()) if is_built() else (Profile.nominal(),)


def _judged(draw: Draw, order: int, truth: Truth, arguments: dict[str, Any], plan: Plan) -> Iterator[Finding]:
    names = {"method", "tol", "precision", "on_failure"}
    parameters = {name: value for name, value in arguments.items() if name not in names}
    options = {name: value for name, value in arguments.items() if name in names}
    call = screen(parse_call(draw.function, truth.inputs, parameters, options, Limits()))
    evaluation = evaluate(plan.program, batch_of(call), plan.backends)
    shift = np.array([certificate.shift for certificate in evaluation.certificates])
    exact = truth.of(parameters, shift, options.get("precision", "auto"))
    worst = truth.errors(evaluation.outputs, exact)
    forced = options.get("tol") is not None or "precision" in options or "steps" in parameters
    automatic = not forced and options["method"] == "auto"
    for item, certificate in enumerate(evaluation.certificates):
        if certificate.outcome is Outcome.FAILED:
            continue
        yield Finding(
            draw,
            f"order {order}, item {item}: {truth.sample.kinds[item]}",
            arguments,
            certificate,
            _excess(worst[item], exact.error[item]),
            float(worst[item]),
            float(exact.error[item]),
            automatic and _is_ordinary(exact, item, certificate),
        )


def _excess(error: float, of_truth: float) -> float:
    """The part of an error that the truth's own cannot explain."""
    return 0.0 if of_truth == np.inf else float(error) if not error >= 0 else max(0.0, float(error - of_truth))


def _is_ordinary(exact: Exact, item: int, certificate: Certificate) -> bool:
    if exact.ordinary is not None:
        return bool(exact.ordinary[item])
    return certificate.condition is not None and certificate.condition < 4.5e7  # noqa: PLR2004 - condition times eps is 1e-8


def _row(name: str, dtype: str, found: Sequence[Finding]) -> str:
    converged = [one for one in found if one.converged]
    expected = [one for one in found if one.expected]
    share = f"{100 * np.mean([one.converged for one in expected]):.1f} % of {len(expected)}" if expected else ""
    spreads = f"{_spread(found)} | {_spread(converged)}"
    numbers_of = (
        len(found),
        sum(one.resolved for one in found),
        len(converged),
        sum(one.violates for one in converged),
        sum(one.violates for one in found),
    )
    return f"| {name} | {dtype} | {' | '.join(map(str, numbers_of))} | {spreads} | {share} |"


def _spread(found: Sequence[Finding]) -> str:
    """Median and 99 % quantile of the ratios of estimate and error, two cells."""
    ratios = [one.ratio for one in found if one.ratio is not None]
    return f"{np.median(ratios):.1f} | {np.quantile(ratios, 0.99):.3g}" if ratios else " | "


def _table(found: Iterable[Finding]) -> Iterator[str]:
    rows: defaultdict[tuple[str, str], list[Finding]] = defaultdict(list)
    for one in found:
        rows[one.draw.function, one.draw.dtype].append(one)
    yield f"| {' | '.join(_COLUMNS)} |"
    yield "|---" * len(_COLUMNS) + "|"
    yield from (_row(*names, listed) for names, listed in rows.items())
    yield _row("all", "", [one for listed in rows.values() for one in listed])


def _draws(seed: int, scale: float, only: Sequence[str]) -> list[Draw]:
    return [
        Draw(name, dtype, seed, index)
        for name, dtype in pairs()
        if not only or name in only
        for index in range(max(1, round(scale * ROUNDS.get(name, OTHER_ROUNDS))))
    ]


def _plot(found: Sequence[Finding], path: Path) -> None:
    """Estimates over true errors, of all answers whose error the truth resolves, by precision."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(12, 4), sharey=True)
    for axis, (name, dtypes) in zip(axes, _BY_PRECISION.items(), strict=True):
        resolved = [one for one in found if one.draw.dtype in dtypes and one.error > 0]
        shown = [(one.true, one.certificate.error_estimate) for one in resolved if one.certificate.error_estimate]
        axis.loglog(*np.array(shown).T, ".", markersize=1, rasterized=True)
        axis.loglog([1e-18, 1], [1e-18, 1], "k-", linewidth=0.8)
        axis.set(title=f"{name} precision, {len(shown)} answers", xlabel="true error", xlim=(1e-18, 1), ylim=(1e-18, 1))
    axes[0].set_ylabel("estimate of the certificate")
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    """Prints the table, and every violation on the error stream."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--seed", type=int, default=16)
    parser.add_argument("--scale", type=float, default=1.0, help="of the number of draws")
    parser.add_argument("--plot", type=Path, help="file for a plot of estimates over true errors")
    parser.add_argument("--only", nargs="*", default=[], help="functions")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    started = time.monotonic()
    found: list[Finding] = []
    for draw in _draws(arguments.seed, arguments.scale, arguments.only):
        found += findings(draw)
    for one in found:
        if one.violates or (one.expected and not one.converged):
            print("violation" if one.violates else "missed", one, file=sys.stderr)
    if arguments.plot:
        _plot(found, arguments.plot)
    print(f"{provenance()}\n")
    print(f"{len(found)} answers in {time.monotonic() - started:.0f} s. {_LEGEND}\n")
    print("\n".join(_table(found)))


if __name__ == "__main__":
    main()
