"""True errors and estimates by function, dtype and condition, for docs/functions: python benchmarks/bench_accuracy.py.

The true errors are against values in extended precision (`certificate_truth`), of the bits that were sent.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import numpy as np

import matfn
from certificate_inputs import Sample, cast, numbers
from certificate_truth import Truth, distance
from long_double import extended
from matfn_kernels import FUNCTIONS
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float64]"

RESULTS: Final = Path(__file__).parent / "results" / "accuracy.md"
CONDITIONS: Final = (1e2, 1e4, 1e6)
DTYPES: Final = ("float16", "bfloat16", "float32", "float64")
ITEMS: Final = 16
ORDER: Final = 32


def basis(rows: int, columns: int, rng: np.random.Generator) -> Array:
    """Orthonormal columns, (ITEMS, rows, columns)."""
    q: Array = np.linalg.qr(rng.standard_normal((ITEMS, rows, columns)))[0]
    return q


def spectrum(count: int, condition: float) -> Array:
    """Values from 1 to 1 / condition in equal ratios."""
    return np.logspace(0, -np.log10(condition), count)


def positive(condition: float, rng: np.random.Generator) -> Array:
    """Symmetric positive definite matrices."""
    q = basis(ORDER, ORDER, rng)
    return (q * spectrum(ORDER, condition)) @ q.mT


def indefinite(condition: float, rng: np.random.Generator) -> Array:
    """Symmetric matrices with eigenvalues of both signs."""
    q = basis(ORDER, ORDER, rng)
    return (q * spectrum(ORDER, condition) * rng.choice([-1, 1], ORDER)) @ q.mT


def tall(condition: float, rng: np.random.Generator) -> Array:
    """Matrices of three quarters as many columns as rows."""
    columns = 3 * ORDER // 4
    return (basis(ORDER, columns, rng) * spectrum(columns, condition)) @ basis(columns, columns, rng).mT


def lower(condition: float, rng: np.random.Generator) -> Array:
    """Lower triangles with these singular values."""
    square = (basis(ORDER, ORDER, rng) * spectrum(ORDER, condition)) @ basis(ORDER, ORDER, rng).mT
    return np.linalg.qr(square)[1].mT


def free(_: float, rng: np.random.Generator) -> Array:
    """Matrices of normal numbers."""
    return rng.standard_normal((ITEMS, ORDER, ORDER))


@dataclass(frozen=True, slots=True)
class Case:
    """A call whose inputs are drawn for a condition.

    Attributes:
        function: to be called.
        makers: of its inputs, in the catalogue's order.
        parameters: by name.
    """

    function: str
    makers: tuple[Callable[[float, np.random.Generator], Array], ...]
    parameters: dict[str, Any]

    @property
    def words(self) -> str:
        """The parameters as they are written."""
        return ", ".join(f"{name}={value}" for name, value in self.parameters.items())


CASES: Final = (
    Case("root", (positive,), {"r": 2}),
    Case("root", (positive,), {"r": 4}),
    Case("inv_root", (positive,), {"r": 2}),
    Case("inv_root", (positive,), {"r": 4}),
    Case("sqrt_pair", (positive,), {}),
    Case("msign", (tall,), {}),
    Case("mclip", (tall,), {"hi": 0.1}),
    Case("polar", (tall,), {}),
    Case("eig_clip", (indefinite,), {"lo": 0.0}),
    Case("geometric_mean", (positive, positive), {}),
    Case("tri_inv", (lower,), {}),
    Case("tri_solve", (lower, free), {}),
    Case("solve_sylvester", (positive, positive, free), {}),
    Case("solve_lyapunov", (positive, free), {}),
)


def cell(case: Case, dtype: str, condition: float, client: matfn.LocalClient) -> str:
    """The largest error and estimate, and how many of the answers are approximate or refused."""
    rng = np.random.default_rng(0)
    names = [entry.name for entry in FUNCTIONS[case.function].inputs if not entry.optional]
    inputs = {name: cast(maker(condition, rng), dtype) for name, maker in zip(names, case.makers, strict=True)}
    answer = getattr(client.with_info, case.function)(*inputs.values(), on_failure="nan", **case.parameters)
    values = answer.value if isinstance(answer.value, tuple) else (answer.value,)
    shifts = np.array([certificate.shift or 0.0 for certificate in answer.certificates])
    truth = Truth(case.function, Sample(inputs, ("",) * ITEMS)).of(case.parameters, shifts)
    errors = [distance(extended(numbers(x)), y, truth.scale) for x, y in zip(values, truth.outputs, strict=True)]
    outcomes = Counter(certificate.outcome for certificate in answer.certificates)
    if outcomes["failed"] == ITEMS:
        return "refused"
    notes = "".join(f"; {outcomes[name]} of {ITEMS} {name}" for name in ("approximate", "failed") if outcomes[name])
    estimates = answer.errors[np.isfinite(answer.errors)]
    estimate = f"{estimates.max():.0e}" if len(estimates) > 0 else "no estimate"
    return f"{np.nanmax(errors):.0e} ({estimate}{notes})"


def table() -> Iterator[str]:
    """The lines of the table."""
    client = matfn.LocalClient(device="cpu")
    yield f"| function | parameters | dtype | {' | '.join(f'condition {one:.0e}' for one in CONDITIONS)} |"
    yield f"|---|---|---|{'---|' * len(CONDITIONS)}"
    for case in CASES:
        for dtype in DTYPES:
            cells = " | ".join(cell(case, dtype, condition, client) for condition in CONDITIONS)
            yield f"| {case.function} | {case.words} | {dtype} | {cells} |"


def main() -> None:
    """Writes the table."""
    head = (
        f"# True errors and estimates\n\n{provenance()}\n\n"
        f"Largest relative error (largest estimate) of {ITEMS} matrices of order {ORDER}, at the default tolerance,\n"
        "against extended precision. The matrices are rounded to the dtype first: the error is that of the bits sent.\n"
        "Values from 1 to 1 / condition in equal ratios are eigenvalues, or singular values of M and of triangles.\n"
        "Approximate: damped, or with an estimate above the tolerance.\n\n"
    )
    RESULTS.write_text(head + "\n".join(table()) + "\n")


if __name__ == "__main__":
    main()
