"""Whether a program's answers depend on what is none of their business: other matrices, place, memory, threads."""

from __future__ import annotations

import itertools
import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Final

import torch

from bit_cases import KINDS, Case, cases
from matfn import wire
from matfn_kernels.contract.certificate import Certificate, Residual
from matfn_kernels.contract.functions import FUNCTIONS
from matfn_kernels.contract.rejection import Rejection
from matfn_kernels.linalg import native_kernels as native
from matfn_kernels.linalg.kernel_choice import Kernel
from matfn_kernels.methods.candidates import CANDIDATES
from matfn_kernels.programs.kernel_prices import Tunable
from matfn_kernels.programs.profile_loading import load_profile
from matfn_kernels.programs.screening import screen
from matfn_kernels.programs.shared_decomposition import shared_by
from matfn_kernels.programs.signature import Signature
from matfn_kernels.programs.validation import Call, Limits, parse_call
from matfn_kernels.running.evaluation import Batch, batch_of, evaluate, evaluate_together

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor

    from matfn_kernels.programs.program import Program
    from matfn_kernels.running.evaluation import Evaluation

__all__ = [
    "BRIEF",
    "FULL",
    "THREADS",
    "Combination",
    "Difference",
    "Extent",
    "Row",
    "bits",
    "combinations",
    "differences",
    "shared_differences",
    "windows",
    "with_threads",
    "written",
]

_OPTIONS: Final = ("tol", "precision")
_ALIGNMENT: Final = 64
_THREADS: Final = (1, 2, 3, 4)
_SIZES: Final = (2, 3, 7, 13)


@dataclass(frozen=True, slots=True)
class Row:
    """The bits of one matrix's answer: each output and each field of the certificate, by name."""

    outputs: Mapping[str, bytes]
    certificate: Mapping[str, str]

    def differing(self, other: Row) -> tuple[str, ...]:
        """Names of outputs and fields that are not the same bits."""
        pairs = ((self.outputs, other.outputs), (self.certificate, other.certificate))
        return tuple(name for one, two in pairs for name in one if one[name] != two[name])


@dataclass(frozen=True, slots=True)
class Difference:
    """One matrix's answer that changed.

    Attributes:
        check: what was done.
        item: the kind of the matrix.
        fields: outputs and fields of the certificate that changed.
        in_output: whether an output did.
        kinds: of the matrices that were in the batch.
        place: of the matrix among them.
        layout: of the storage.
        threads: of torch.
    """

    check: str
    item: str
    fields: tuple[str, ...]
    in_output: bool
    kinds: tuple[str, ...] = ()
    place: int = 0
    layout: str = ""
    threads: int = 1

    def __str__(self) -> str:
        where = f"place {self.place} of {len(self.kinds)}" if len(self.kinds) > 1 else "alone"
        return f"{self.check}, {where}: {self.item}: {', '.join(self.fields)}"


@dataclass(frozen=True, slots=True)
class Extent:
    """How much is compared.

    Attributes:
        kinds: of matrices.
        windows: at most so many batches of each size.
        layouts: of the storage.
        threads: numbers of threads of torch.
        is_threaded: whether threads evaluate side by side.
    """

    kinds: tuple[str, ...]
    windows: int
    layouts: tuple[str, ...]
    threads: tuple[int, ...]
    is_threaded: bool


_OFFSETS: Final = tuple(f"offset {elements}" for elements in range(1, 8))
_LAYOUTS: Final = (*_OFFSETS, "transposed", "strided", "interleaved", "conjugated")
FULL: Final = Extent(KINDS, 9, _LAYOUTS, _THREADS, is_threaded=True)
BRIEF: Final = Extent(
    ("well", "ill", "large", "failing"), 1, ("offset 1", "offset 6", "transposed"), (), is_threaded=True
)
THREADS: Final = Extent(("well", "ill", "failing"), 0, (), _THREADS, is_threaded=False)


@dataclass(frozen=True, eq=False)
class Combination:
    """A program and a call that it can serve."""

    case: Case
    program: Program
    name: str

    @cached_property
    def inputs(self) -> dict[str, Tensor]:
        """One matrix of each kind."""
        return _inputs(self.case)

    @property
    def method(self) -> str:
        """Method, arithmetic and kernels."""
        return _method(self.program)

    def batch(self, kinds: Sequence[str], layout: str = "") -> Batch:
        """The matrices of these kinds, laid out in memory in some way."""
        items = [KINDS.index(kind) for kind in kinds]
        chosen = {name: _laid_out(layout, tensor[items]) for name, tensor in self.inputs.items()}
        return batch_of(screen(parsed(self.case, chosen)))

    def rows(self, kinds: Sequence[str], layout: str = "") -> list[Row]:
        """The answers for matrices of these kinds in one batch."""
        return self.read(evaluate(self.program, self.batch(kinds, layout), load_profile().backends))

    def read(self, evaluation: Evaluation) -> list[Row]:
        """An evaluation's answers, one a matrix."""
        names = FUNCTIONS[self.case.function].outputs_of((), self.case.keywords)
        return [
            Row(
                {name: bits(output[i]) for name, output in zip(names, evaluation.outputs, strict=True)},
                written(certificate),
            )
            for i, certificate in enumerate(evaluation.certificates)
        ]


@lru_cache(maxsize=64)
def _inputs(case: Case) -> dict[str, Tensor]:
    return case.inputs()


def parsed(case: Case, inputs: Mapping[str, Tensor]) -> Call:
    """The call that a case makes of these inputs."""
    options = {name: value for name, value in case.keywords.items() if name in _OPTIONS}
    params = {name: value for name, value in case.keywords.items() if name not in _OPTIONS}
    return parse_call(case.function, inputs, params, {**options, "on_failure": "nan"}, Limits())


def bits(x: Tensor) -> bytes:
    """The numbers as they lie in memory."""
    flat = torch.empty(x.numel(), dtype=x.dtype).copy_(x.reshape(-1))
    return flat.view(torch.uint8).numpy().tobytes()


def written(certificate: Certificate | wire.Certificate) -> dict[str, str]:
    """A certificate's fields to the last bit."""
    return {name: _text(getattr(certificate, name)) for name in Certificate._fields}


def _text(value: object) -> str:
    """A value to the last bit; a refusal may number the matrix as its caller does."""
    if isinstance(value, str):
        return re.sub(r"^matrix \d+", "matrix", value)
    if isinstance(value, float):
        return value.hex()
    residual = (Residual, wire.Residual)
    return f"{value.name} {float(value.value).hex()}" if isinstance(value, residual) else str(value)


def combinations(*, brief: bool = False) -> Iterator[Combination]:
    """Every program of every case, by every kernel that this machine has; none twice at one tolerance."""
    seen: set[tuple[object, ...]] = set()
    names: dict[str, int] = {}
    for case in cases():
        if brief and not case.is_brief:
            continue
        call = parsed(case, case.inputs(("well",)))
        shapes = tuple(tuple(tensor.shape[1:]) for tensor in call.inputs.values())
        for program in _programs(call):
            key = (case.function, case.keywords.get("tol"), program, shapes)
            if key in seen:
                continue
            seen.add(key)
            name = f"{case.name}-{_method(program)}"
            names[name] = names.get(name, 0) + 1
            yield Combination(case, program, name if names[name] == 1 else f"{name}-{names[name]}")


def _method(program: Program) -> str:
    kernel = getattr(program, "kernel", Kernel.LIBRARY)
    return f"{program.method}-{program.precision}" + ("" if kernel is Kernel.LIBRARY else f"-{kernel}")


def _programs(call: Call) -> list[Program]:
    """The candidates for a call, by every kernel, and all that they fall back on."""
    try:
        waiting: list[Program] = list(CANDIDATES[call.function](Signature.of(call)))
    except Rejection:
        return []
    found: dict[Program, None] = {}
    while waiting:
        program = waiting.pop(0)
        variants: Iterable[Program] = program.variants() if isinstance(program, Tunable) else (program,)
        for variant in variants:
            if variant not in found and _runs_here(variant):
                found[variant] = None
                waiting.extend(variant.fallbacks())
    return list(found)


def _runs_here(program: Program) -> bool:
    kernel = getattr(program, "kernel", Kernel.LIBRARY)
    return kernel is Kernel.LIBRARY or (kernel is Kernel.NATIVE and native.is_built())


def _storage(number: int, dtype: torch.dtype, offset: int = 0) -> Tensor:
    """Storage for so many numbers that begins so many elements behind a multiple of 64 bytes."""
    spare = _ALIGNMENT // dtype.itemsize
    whole = torch.zeros(number + 2 * spare, dtype=dtype)
    start = -whole.data_ptr() % _ALIGNMENT // dtype.itemsize
    return whole[start + offset : start + offset + number]


def _aligned(x: Tensor, offset: int = 0) -> Tensor:
    return _storage(x.numel(), x.dtype, offset).reshape(x.shape).copy_(x)


def _laid_out(layout: str, x: Tensor) -> Tensor:
    """The same numbers, so many elements behind a multiple of 64 bytes or as a view of memory in another order."""
    match layout:
        case "transposed" if x.dim() > 2:
            return _aligned(x.mT).mT
        case "strided":
            wide = torch.zeros(*x.shape[:-1], 2 * x.shape[-1] + 1, dtype=x.dtype)
            wide[..., 1::2] = x
            return wide[..., 1::2]
        case "interleaved":
            return _aligned(x.movedim(0, -1)).movedim(-1, 0)
        case "conjugated":
            return _aligned(x.conj().resolve_conj()).conj()
        case _:
            return _aligned(x, int(layout.removeprefix("offset ")) if layout.startswith("offset") else 0)


def windows(kinds: Sequence[str], size: int, most: int) -> list[tuple[str, ...]]:
    """Batches of one size that together hold every matrix, most of them at more than one place."""
    around = [*kinds, *kinds[1::2], *kinds[::2], *reversed(kinds)]
    step = 1 if size == 2 else size - 1
    starts = range(0, len(kinds), step)
    turned = [tuple(itertools.islice(itertools.cycle(around), start, start + size)) for start in starts]
    return turned[-most:] if most else []


class _Comparison:
    """Answers against those of each matrix alone."""

    def __init__(self, combination: Combination, kinds: Sequence[str]) -> None:
        self.combination = combination
        self.count = 0
        self.found: list[Difference] = []
        self.alone = {kind: combination.rows([kind])[0] for kind in kinds}

    def compare(self, check: str, kinds: Sequence[str], layout: str = "", threads: int = 1) -> None:
        """Evaluates a batch and compares."""
        for difference in self.judge(check, kinds, self.combination.rows(kinds, layout)):
            self.found.append(replace(difference, layout=layout, threads=threads))

    def judge(self, check: str, kinds: Sequence[str], rows: Sequence[Row]) -> Iterator[Difference]:
        """Counts the answers and gives those that differ."""
        for place, (kind, row) in enumerate(zip(kinds, rows, strict=True)):
            self.count += 1
            changed = self.alone[kind].differing(row)
            if changed:
                in_output = not row.outputs.keys().isdisjoint(changed)
                yield Difference(check, kind, changed, in_output, tuple(kinds), place)


def differences(combination: Combination, extent: Extent) -> tuple[list[Difference], int]:
    """The answers that changed, and how many were compared."""
    comparison = _Comparison(combination, extent.kinds)
    some, first = extent.kinds[:3], extent.kinds[:1]
    for size in _SIZES:
        for window in windows(extent.kinds, size, extent.windows):
            comparison.compare("batch", window)
    for layout in extent.layouts:
        comparison.compare(layout, some, layout)
        comparison.compare(layout, first, layout)
    for threads in extent.threads:
        with with_threads(threads):
            for kinds in (extent.kinds, some[:1], some[1:2]):
                comparison.compare(f"{threads} threads", kinds, threads=threads)
    if extent.is_threaded:
        with ThreadPoolExecutor(3, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            batches = [some, some[::-1], some[:2]]
            for kinds, rows in zip(batches, pool.map(combination.rows, batches), strict=True):
                comparison.found += comparison.judge("in a thread", kinds, rows)
    return comparison.found, comparison.count


@contextmanager
def with_threads(number: int) -> Iterator[None]:
    """So many threads of torch, then as many as before."""
    usual = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(usual)


def shared_differences(
    combinations: Iterable[Combination], kinds: Sequence[str], function: str | None = None
) -> Iterator[tuple[Combination, list[Difference], int]]:
    """The answers that changed where programs, of one function or of all, share a decomposition, and their number."""
    groups: dict[object, dict[Program, Combination]] = {}
    for combination in combinations:
        shared = shared_by(combination.program)
        if shared is not None:
            groups.setdefault(shared, {}).setdefault(combination.program, combination)
    for group in groups.values():
        members = list(group.values())
        names = {member.case.function for member in members}
        if len(members) == 1 or function not in {None, *names}:
            continue
        evaluations = evaluate_together(
            [(member.program, member.batch(kinds)) for member in members], load_profile().backends
        )
        for member, evaluation in zip(members, evaluations, strict=True):
            if function not in {None, member.case.function}:
                continue
            comparison = _Comparison(member, kinds)
            comparison.found += comparison.judge(f"beside {len(members) - 1} programs", kinds, member.read(evaluation))
            yield member, comparison.found, comparison.count
