"""True errors and estimates by function, dtype and condition, for docs/functions: python benchmarks/bench_accuracy.py.

The true errors are against values in extended precision (`certificate_truth`), of the bits that were sent.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import long_double
import matfn
from accuracy_cases import CASES, ITEMS, ORDER, Draw
from certificate_inputs import Sample, cast, numbers
from certificate_truth import Truth
from matfn_kernels import FUNCTIONS
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Iterator

    import torch

    from accuracy_cases import Case

RESULTS: Final = Path(__file__).parent / "results" / "accuracy.md"
CONDITIONS: Final = (1e2, 1e4, 1e6)
REAL: Final = ("float16", "bfloat16", "float32", "float64")
COMPLEX: Final = ("complex64", "complex128")


def sample(case: Case, dtype: str, condition: float) -> Sample:
    """The inputs of a case in a dtype, with the factors of covariances as they have been rounded."""
    draw = Draw(condition, dtype.startswith("complex"), np.random.default_rng(0))
    inputs = {name: cast(maker(draw), dtype) for name, maker in case.makers.items()}
    return Sample(inputs, ("",) * ITEMS, tuple(factors(inputs)))


def factors(inputs: dict[str, torch.Tensor]) -> Iterator[Any]:
    """F of S = F F^H for each covariance; eigenvalues that rounding has made negative count as 0."""
    for covariance in (tensor for name, tensor in inputs.items() if name in {"s1", "s2"}):
        w, v = long_double.eigh(numbers(covariance))
        yield v * np.sqrt(np.maximum(w, 0))[:, None, :]


def cell(case: Case, dtype: str, condition: float, client: matfn.LocalClient) -> str:
    """The largest error and estimate, and how many of the answers are approximate or refused."""
    given = sample(case, dtype, condition)
    answer = getattr(client.with_info, case.function)(**given.inputs, on_failure="nan", **case.parameters)
    outcomes = Counter(certificate.outcome for certificate in answer.certificates)
    if outcomes["failed"] == ITEMS:
        return "refused"
    values = answer.value if isinstance(answer.value, tuple) else (answer.value,)
    truth = Truth(case.function, given)
    shifts = np.array([certificate.shift or 0.0 for certificate in answer.certificates])
    errors = truth.errors(values, truth.of(case.parameters, shifts))
    notes = "".join(f"; {outcomes[name]} of {ITEMS} {name}" for name in ("approximate", "failed") if outcomes[name])
    estimates = answer.errors[np.isfinite(answer.errors)]
    estimate = f"{estimates.max():.0e}" if len(estimates) > 0 else "no estimate"
    return f"{np.nanmax(errors):.0e} ({estimate}{notes})"


def row(case: Case, dtype: str, client: matfn.LocalClient) -> str:
    """A line of the table; what does not depend on the condition is in the first column of results."""
    taken = CONDITIONS if case.has_condition else CONDITIONS[:1]
    cells = [cell(case, dtype, condition, client) for condition in taken]
    cells += [""] * (len(CONDITIONS) - len(taken))
    return f"| {case.function} | {case.words} | {dtype} | {' | '.join(cells)} |"


def table() -> Iterator[str]:
    """The lines of the table."""
    client = matfn.LocalClient(device="cpu")
    yield f"| function | parameters | dtype | {' | '.join(f'condition {one:.0e}' for one in CONDITIONS)} |"
    yield f"|---|---|---|{'---|' * len(CONDITIONS)}"
    for case in CASES:
        for dtype in (*REAL, *(COMPLEX if FUNCTIONS[case.function].complex_ok else ())):
            yield row(case, dtype, client)


def main() -> None:
    """Writes the table."""
    head = (
        f"# True errors and estimates\n\n{provenance()}\n\n"
        f"Largest relative error (largest estimate) of {ITEMS} matrices of order {ORDER}, at the default tolerance,\n"
        "against extended precision. The matrices are rounded to the dtype first: the error is that of the bits sent.\n"
        "Values from 1 to 1 / condition in equal ratios are eigenvalues, singular values of M and of triangles,\n"
        "entries of diagonals, and 1 - l^2 for the eigenvalues l of discrete equations. Eigenvectors of general\n"
        "matrices are those of `accuracy_cases.py`. Where the condition says nothing, the first column has the error.\n"
        "Approximate: damped, or with an estimate above the tolerance.\n\n"
    )
    RESULTS.write_text(head + "\n".join(table()) + "\n")


if __name__ == "__main__":
    main()
