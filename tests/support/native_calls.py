"""Calls of every function that the library in C exports, of any size and content that it may be given."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass, fields
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import scipy.linalg
from hypothesis import strategies as st

from matfn_kernels.linalg.native import lapack
from matfn_kernels.linalg.native.library import library
from matfn_kernels.linalg.native.structures import (
    BALL_FACTS,
    CALLS,
    IN_LANES,
    MAX_STEPS,
    PROBES,
    ClipFindings,
    ClipPlan,
    ExponentialFindings,
    ExponentialsPlan,
    GramPolarFindings,
    GramPolarPlan,
    Half,
    ImageFindings,
    LockstepPlan,
    LowRankPlan,
    PolarFindings,
    PolarPlan,
    PowerFindings,
    PowersPlan,
    ResidualsPlan,
    RiccatiFindings,
    RowsPlan,
    SolveFindings,
    SolvesPlan,
    SpectralFindings,
    SpectralPlan,
    Step,
    SylvesterFindings,
    SylvesterPlan,
    TallPlan,
    TriangleFindings,
    TrianglesPlan,
    UpperFindings,
    UpperPlan,
)
from matfn_kernels.linalg.single_thread import one_thread
from matfn_kernels.proofs.recorded import Tape, compiled
from watched_memory import out_of_bounds, watched

if TYPE_CHECKING:
    from collections.abc import Callable

    from evaluating import Array

__all__ = ["CASES", "Case", "Outcome"]

F32: Final = np.dtype(np.float32)
F64: Final = np.dtype(np.float64)
KINDS: Final = tuple(map(np.dtype, (np.float32, np.float64, np.complex64, np.complex128)))
SIZES: Final = st.one_of(st.integers(0, 9), st.integers(10, 40), st.sampled_from([64, 65, 129]))
SMALL: Final = st.one_of(st.integers(0, 5), st.integers(6, 34))
ITEMS: Final = st.integers(0, 4)
SHIFTS: Final = st.integers(0, 15)
_CONTENTS: Final = ("gaussian", "definite", "special", "zero", "huge", "tiny")


@dataclass(frozen=True)
class Argument:
    """An array that a function is given, with room for all units of work.

    Attributes:
        content: before the call.
        role: "in", "out", whose content before the call does not matter, or "inout".
    """

    content: Array
    role: str = "in"

    def filled(self, byte: int) -> Array:
        """The content before the call, that of a result being this byte."""
        return (
            np.frombuffer(bytes([byte]) * self.content.nbytes, self.content.dtype)
            if self.role == "out"
            else self.content
        )


@dataclass(frozen=True)
class Outcome:
    """What a call left in the arrays that it may write to, and whether all else is as it was."""

    status: int
    written: tuple[bytes, ...]
    is_clean: bool


@dataclass(frozen=True)
class Case:
    """A call.

    Attributes:
        entry: name of the function.
        units: of work: matrices, rows or panels.
        arguments: the arrays.
        call: calls it with addresses of the arrays on units first..last.
    """

    entry: str
    units: int
    arguments: tuple[Argument, ...]
    call: Callable[[list[int], int, int], int]

    def run(self, shift: int = 0, byte: int = 0xA5, cuts: tuple[int, ...] = ()) -> Outcome:
        """Calls it on all units in parts, with results that hold this byte before and lie at that shift."""
        arrays = [watched(argument.filled(byte), shift) for argument in self.arguments]
        addresses, bounds = [array.address for array in arrays], (0, *cuts, self.units)
        with one_thread(), out_of_bounds(arrays):
            statuses = [self.call(addresses, *part) for part in pairwise(bounds)]
        read = [
            array.content() == argument.content.tobytes()
            for array, argument in zip(arrays, self.arguments, strict=True)
            if argument.role == "in"
        ]
        written = tuple(
            array.content() for array, argument in zip(arrays, self.arguments, strict=True) if argument.role != "in"
        )
        return Outcome(max(statuses), written, all(read) and all(array.is_intact() for array in arrays))

    def untouched(self, byte: int = 0xA5) -> tuple[bytes, ...]:
        """The content of the arrays that it may write to, before the call."""
        return tuple(argument.filled(byte).tobytes() for argument in self.arguments if argument.role != "in")


@st.composite
def numbers(draw: st.DrawFn, *shape: int, dtype: np.dtype[Any]) -> Array:
    """Numbers of one kind or another: NaN, infinities, zeros, subnormal and huge ones among them."""
    content, rng = draw(st.sampled_from(_CONTENTS)), np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    real = np.dtype(dtype.type().real.dtype)
    x = rng.standard_normal((*shape, 2 if dtype.kind == "c" else 1))
    limits = np.finfo(real)
    if content == "definite" and shape[-2:-1] == shape[-1:]:
        x = x * 0.1 / max(shape[-1], 1) + np.eye(shape[-1])[..., None] * ([1, 0] if dtype.kind == "c" else [1])
        x = (x + x.swapaxes(-2, -3)) / 2
    if content == "special":
        values = [np.nan, np.inf, -np.inf, 0.0, -0.0, limits.smallest_subnormal, limits.max, -limits.max]
        x = np.where(rng.random(x.shape) < draw(st.sampled_from([0.02, 0.5])), rng.choice(values, x.shape), x)
    scale = {"zero": 0, "huge": float(limits.max) / 8, "tiny": float(limits.smallest_subnormal) * 99}.get(content, 1)
    with np.errstate(all="ignore"):
        return np.ascontiguousarray((x * scale).astype(real)).view(dtype)[..., 0]


def _blank(*shape: int, dtype: np.dtype[Any] = F64) -> Argument:
    return Argument(np.zeros(shape, dtype), "out")


def _of_batch(name: str, suffix: str, plan: Any, arguments: tuple[Argument, ...], absent: int = 0) -> Case:
    """A function on matrices of a batch, of which each has its part of each argument; `absent` arrays stay null."""
    items = len(arguments[0].content)
    strides = [argument.content.nbytes // max(items, 1) for argument in arguments]

    def call(addresses: list[int], first: int, last: int) -> int:
        filled = plan(last - first)
        pointers = [ctypes.c_void_p(at + first * stride) for at, stride in zip(addresses, strides, strict=True)]
        pointers[-1:-1] = [ctypes.c_void_p()] * absent
        return int(getattr(library(), f"matfn_{name}_{suffix}")(ctypes.byref(filled), *pointers))

    return Case(f"matfn_{name}_{suffix}", items, arguments, call)


def _probes(order: int) -> Array:
    return np.random.default_rng(order).standard_normal((order, PROBES))


@st.composite
def _schedules(draw: st.DrawFn, order: int) -> tuple[Array, Array, Array]:
    """Bounds, steps and coefficients of some schedules: Newton's, or any."""
    count = draw(st.integers(1, 3))
    longest = MAX_STEPS if order <= 16 else 3
    steps = np.array(draw(st.lists(st.integers(1, longest), min_size=count, max_size=count)), dtype=np.int64)
    rows = np.broadcast_to(draw(st.sampled_from([(1.875, -1.25, 0.375), (1.5, -0.5, 0.0), (1e30, 1e30, 1e30)])), (3,))
    return np.geomspace(0.1, 1e-6, count), steps, np.broadcast_to(rows, (count, MAX_STEPS, 3)).copy()


POWERS: Final = (
    (1, 1, 2, 1, 2, False), (1, 2, 5, 3, 5, False), (0, 1, 1, 1, 1, False), (0, 1, 4, 1, 4, False),
    (0, 5, 12, 5, 12, False), (0, 3, 1, 6, 2, False), (1, 1, 2, 1, 2, True), (3, 1, 2, 5, 2, False),
)  # fmt: skip
"""k, s, r of A^k A^(-s/r), s and r of the whole power, and whether A^(-s/r) is wanted too."""


ROOT_RULES: Final = ((0, 0.0), (1, 1e-3), (4, 1e-3), (4, 1e30))


@st.composite
def roots(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Powers of symmetric matrices."""
    items, order = draw(ITEMS), draw(SIZES)
    *exponents, pair = draw(st.sampled_from(POWERS))
    a, schedules, probes = draw(numbers(items, order, order, dtype=dtype)), draw(_schedules(order)), _probes(order)
    floor, bound = draw(st.sampled_from([(1e-7, 1e-6), (1e-3, 1e-6), (0.0, 0.0)]))
    rule, added = draw(st.sampled_from(ROOT_RULES))

    def plan(count: int) -> PowersPlan:
        pointers = [array.ctypes.data for array in (probes, *schedules)]
        counts = (count, order, *exponents, pair, len(schedules[0]), rule)
        return PowersPlan(*counts, added, 1e-6, floor, bound, 1.25, *pointers)

    outputs = [_blank(items, order, order, dtype=dtype) for _ in range(1 + pair)]
    found = _blank(items, len(PowerFindings.__slots__))
    return _of_batch("roots", _suffix(dtype), plan, (Argument(a), *outputs, found), absent=not pair)


@st.composite
def triangles(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Inverses of triangles."""
    items, order = draw(ITEMS), draw(SIZES)
    settings, probes = (order, draw(st.booleans()), draw(st.booleans()), float(np.finfo(dtype).eps)), _probes(order)
    t = draw(numbers(items, order, order, dtype=dtype))
    results = _blank(items, order, order, dtype=dtype), _blank(items, len(TriangleFindings.__slots__))

    def plan(count: int) -> TrianglesPlan:
        return TrianglesPlan(count, *settings, probes.ctypes.data)

    return _of_batch("triangles", _suffix(dtype), plan, (Argument(t), *results))


@st.composite
def _tall(draw: st.DrawFn) -> Array:
    items, order = draw(ITEMS), draw(SIZES)
    return draw(numbers(items, order + draw(st.integers(0, 9)), order, dtype=F32))


@st.composite
def polar(draw: st.DrawFn) -> Case:
    """Polar factors of tall matrices."""
    m = draw(_tall())
    items, rows, order = m.shape
    schedules, probes, floor = draw(_schedules(order)), _probes(order), draw(st.sampled_from([1e-7, 1e-2]))

    def plan(count: int) -> PolarPlan:
        pointers = [array.ctypes.data for array in (probes, *schedules)]
        return PolarPlan(count, rows, order, len(schedules[0]), floor, 1.25, *pointers)

    results = _blank(*m.shape, dtype=F32), _blank(items, len(PolarFindings.__slots__))
    return _of_batch("polar", "f32", plan, (Argument(m), *results))


@st.composite
def gram(draw: st.DrawFn) -> Case:
    """Gram matrices of tall matrices."""
    m = draw(_tall())
    items, rows, order = m.shape
    return _of_batch(
        "gram", "f32", lambda count: TallPlan(count, rows, order, None), (Argument(m), _blank(items, order, order))
    )


@st.composite
def image(draw: st.DrawFn) -> Case:
    """Images of tall matrices under functions of their Gram matrices."""
    m = draw(_tall())
    items, rows, order = m.shape
    probes = _probes(order)
    given = [Argument(m), *(Argument(draw(numbers(items, *x, dtype=F64))) for x in ((order, order), (order,)))]
    results = _blank(*m.shape, dtype=F32), _blank(items, len(ImageFindings.__slots__))
    return _of_batch("image", "f32", lambda count: TallPlan(count, rows, order, probes.ctypes.data), (*given, *results))


@st.composite
def gram_polar(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Polar factors and clippings of more small tall matrices than a vector has lanes, in float64 from above alone."""
    items, order = draw(st.one_of(ITEMS, st.integers(5, 40))), draw(st.one_of(SMALL, st.just(64)))
    rows = order + draw(st.integers(0, 9))
    above = [(1, 0.0, np.inf), (1, 0.0, 1.0), (1, 0.0, 1e-300)]
    kinds = [(0, 0.0, np.inf), *above, (1, 0.5, 0.5), (1, 1e-40, 1e30)] if dtype == F32 else above
    kind = draw(st.sampled_from(kinds))
    laws = draw(st.sampled_from([(1e-13, 1e-13), (0.0, 0.0)]))
    settings = (rows, order, *kind, draw(st.sampled_from([0.0, 1e-6, 1e-3])), 1e-14, *laws, 4.0)
    given, columns = Argument(draw(numbers(items, rows, order, dtype=dtype))), _probes(order)
    results = _blank(items, rows, order, dtype=dtype), _blank(items, len(GramPolarFindings.__slots__))
    return _of_batch(
        "gram_polar",
        _suffix(dtype),
        lambda count: GramPolarPlan(count, *settings, columns.ctypes.data),
        (given, *results),
    )


@st.composite
def eigh(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Eigendecompositions of small Hermitian matrices, of more than one vector's lanes."""
    items, order = draw(st.one_of(ITEMS, st.integers(5, 40))), draw(st.one_of(SMALL, st.just(65)))
    real = np.dtype(dtype.type().real.dtype)
    results = _blank(items, order, dtype=real), _blank(items, order, order, dtype=dtype)
    given = Argument(draw(numbers(items, order, order, dtype=dtype)))
    return _of_batch("eigh", _suffix(dtype), lambda count: LockstepPlan(count, order), (given, *results))


@st.composite
def svd(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Singular value decompositions of small tall matrices, of more than one vector's lanes."""
    items, order = draw(st.one_of(ITEMS, st.integers(5, 40))), draw(st.one_of(SMALL, st.just(64)))
    rows = order + draw(st.integers(0, 9))
    given = Argument(draw(numbers(items, rows, order, dtype=dtype)))
    sizes = (items, rows, order), (items, order), (items, order, order)
    results = [_blank(*size, dtype=dtype) for size in sizes]
    return _of_batch("svd", _suffix(dtype), lambda count: TallPlan(count, rows, order, None), (given, *results))


SPECTRAL_RULES: Final = tuple((rule, damping) for rule in range(5) for damping in (0.0, 1e-4))


@st.composite
def spectral(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Powers of small symmetric matrices by their eigendecompositions, of more than one vector's lanes."""
    items, order = draw(st.one_of(ITEMS, st.integers(5, 40))), draw(st.one_of(SMALL, st.just(64)))
    s, r, inverse, pair = draw(st.sampled_from([(1, 2, 0, 1), (1, 4, 1, 0), (3, 2, 0, 0), (2, 3, 1, 0), (6, 2, 1, 0)]))
    rule, damping = draw(st.sampled_from(SPECTRAL_RULES))
    settings = (order, IN_LANES, s, r, inverse, pair, rule, draw(st.integers(0, 1)), damping, 1e-6, 1e-3, 1e-14, 1e-15)
    rest = (1e-13, 1e-13, 4.0, 0.25, 0.0625, draw(st.sampled_from([0.0, 1e-9, 1.0])))
    given, columns = Argument(draw(numbers(items, order, order, dtype=dtype))), _probes(order)
    outputs = [_blank(items, order, order, dtype=dtype) for _ in range(1 + pair)]
    found = _blank(items, len(SpectralFindings.__slots__))

    def plan(count: int) -> SpectralPlan:
        return SpectralPlan(count, *settings, *rest, columns.ctypes.data)

    return _of_batch("spectral", _suffix(dtype), plan, (given, *outputs, found), absent=not pair)


@st.composite
def exponentials(draw: st.DrawFn) -> Case:
    """Exponentials of matrices of any size, symmetric parts or all of them."""
    items, order = draw(ITEMS), draw(st.one_of(SMALL, st.sampled_from([64, 130])))
    settings = (order, draw(st.integers(0, 1)), draw(st.sampled_from([1.0, -0.5, 0.0, 1e-300, 1e300])))
    given, columns = Argument(draw(numbers(items, order, order, dtype=F64))), _probes(order)
    results = _blank(items, order, order, dtype=F64), _blank(items, len(ExponentialFindings.__slots__))
    return _of_batch(
        "exponentials", "f64", lambda count: ExponentialsPlan(count, *settings, columns.ctypes.data), (given, *results)
    )


@st.composite
def clips(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Small symmetric matrices with eigenvalues clipped, of more than one vector's lanes."""
    items, order = draw(st.one_of(ITEMS, st.integers(5, 40))), draw(st.one_of(SMALL, st.just(64)))
    bounds = draw(st.sampled_from([(0.0, np.inf), (-1.0, 1.0), (-np.inf, 1e-300), (-1e300, 1e300), (2.0, 2.0)]))
    settings = (order, *bounds, 1e-14, *draw(st.sampled_from([(1e-13, 1e-13), (0.0, 0.0)])), 4.0)
    given, columns = Argument(draw(numbers(items, order, order, dtype=dtype))), _probes(order)
    results = _blank(items, order, order, dtype=dtype), _blank(items, len(ClipFindings.__slots__))
    return _of_batch(
        "clips", _suffix(dtype), lambda count: ClipPlan(count, *settings, columns.ctypes.data), (given, *results)
    )


@st.composite
def low_rank(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Products and solutions with a diagonal matrix plus one of low rank."""
    items, order, rank, columns = draw(ITEMS), draw(SIZES), draw(SMALL), draw(SMALL)
    flags = draw(st.booleans()), draw(st.booleans())
    shapes = (order,), (order, rank), (order, rank), (order, columns)
    given = [Argument(draw(numbers(items, *shape, dtype=dtype))) for shape in shapes]
    return _of_batch(
        "low_rank",
        _suffix(dtype),
        lambda count: LowRankPlan(count, order, rank, columns, *flags),
        (*given, _blank(items, order, columns, dtype=dtype)),
    )


@st.composite
def reductions(draw: st.DrawFn, name: str, dtype: np.dtype[Any]) -> Case:
    """Sums, norms or largest magnitudes of rows."""
    rows, length = draw(ITEMS), draw(st.integers(0, 70))
    x, out = draw(numbers(rows, length, dtype=dtype)), _blank(rows, dtype=F64 if name == "sums" else dtype)
    entry = f"matfn_{name}_{_suffix(dtype)}"

    def call(addresses: list[int], first: int, last: int) -> int:
        source, target = addresses[0] + first * length * dtype.itemsize, addresses[1] + first * out.content.itemsize
        pointers = ctypes.c_void_p(source), ctypes.c_void_p(target)
        getattr(library(), entry)(ctypes.c_int64(last - first), ctypes.c_int64(length), *pointers)
        return 0

    return Case(entry, rows, (Argument(x), out), call)


@st.composite
def symmetric_peaks(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Largest magnitudes of matrices that are symmetric, or not."""
    items, order = draw(ITEMS), draw(SIZES)
    a = draw(numbers(items, order, order, dtype=dtype))
    a = np.where(np.tri(order, dtype=bool), a, a.swapaxes(-1, -2)) if draw(st.booleans()) else a
    out, entry = _blank(items, dtype=dtype), f"matfn_symmetric_peaks_{_suffix(dtype)}"

    def call(addresses: list[int], first: int, last: int) -> int:
        steps = (order * order * dtype.itemsize, dtype.itemsize)
        pointers = (ctypes.c_void_p(at + first * step) for at, step in zip(addresses, steps, strict=True))
        getattr(library(), entry)(ctypes.c_int64(last - first), ctypes.c_int64(order), *pointers)
        return 0

    return Case(entry, items, (Argument(a), out), call)


@st.composite
def multiples(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Rows times their factors."""
    rows, length = draw(ITEMS), draw(st.integers(0, 70))
    given = Argument(draw(numbers(rows, length, dtype=dtype))), Argument(draw(numbers(rows, dtype=F64)))
    results = _blank(rows, length, dtype=dtype), _blank(rows, dtype=dtype)
    return _of_batch("multiples", _suffix(dtype), lambda count: RowsPlan(count, length), (*given, *results))


@st.composite
def triangle_peaks(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Largest magnitudes of triangles."""
    items, order, upper, strict = draw(ITEMS), draw(SIZES), draw(st.booleans()), draw(st.booleans())
    t, out = Argument(draw(numbers(items, order, order, dtype=dtype))), _blank(items, dtype=dtype)
    entry = f"matfn_triangle_peaks_{_suffix(dtype)}"

    def call(addresses: list[int], first: int, last: int) -> int:
        settings = (ctypes.c_int64(number) for number in (last - first, order, upper, strict))
        steps = (order * order * dtype.itemsize, dtype.itemsize)
        pointers = (ctypes.c_void_p(at + first * step) for at, step in zip(addresses, steps, strict=True))
        getattr(library(), entry)(*settings, *pointers)
        return 0

    return Case(entry, items, (t, out), call)


@st.composite
def solves(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Solutions of triangular systems with few columns."""
    items, order, columns = draw(ITEMS), draw(SIZES), draw(st.integers(1, PROBES))
    flags, probes = tuple(draw(st.booleans()) for _ in range(3)), _probes(order)
    given = [Argument(draw(numbers(items, order, size, dtype=dtype))) for size in (order, columns)]
    results = _blank(items, order, columns, dtype=dtype), _blank(items, len(SolveFindings.__slots__))

    def plan(count: int) -> SolvesPlan:
        return SolvesPlan(count, order, columns, *flags, probes.ctypes.data)

    return _of_batch("solves", _suffix(dtype), plan, (*given, *results))


@st.composite
def random_numbers(draw: st.DrawFn) -> Case:
    """Random numbers that the bytes of matrices seed."""
    items, size, count = draw(ITEMS), draw(st.integers(1, 70)), draw(st.integers(0, 70))
    x, out = draw(numbers(items, size, dtype=F32)), _blank(items, count, dtype=F64)
    entry, step = "matfn_random_numbers", F32.itemsize * size

    def call(addresses: list[int], first: int, last: int) -> int:
        source, target = addresses[0] + first * step, addresses[1] + first * count * F64.itemsize
        sizes = [ctypes.c_int64(number) for number in (last - first, step, count)]
        getattr(library(), entry)(*sizes[:2], ctypes.c_void_p(source), sizes[2], ctypes.c_void_p(target))
        return 0

    return Case(entry, items, (Argument(x), out), call)


@st.composite
def residuals(draw: st.DrawFn, dtype: np.dtype[Any]) -> Case:
    """Residuals of decompositions; of vectors alone, or with matrices and values. A batch is not divided."""
    items, rows, alone = draw(st.integers(1, 3)), draw(st.integers(1, 20)), draw(st.booleans())
    columns = draw(st.integers(1, 20)) if alone else rows
    vectors, z = Argument(draw(numbers(items, rows, columns, dtype=dtype))), Argument(_probes(columns))
    shapes = () if alone else ((items, columns, columns), (items, columns))
    given = tuple(Argument(draw(numbers(*shape, dtype=dtype))) for shape in shapes)
    results = _blank(3 * PROBES, columns), _blank(2, items)
    entry = f"matfn_unexplained_{_suffix(dtype)}"

    def call(addresses: list[int], first: int, last: int) -> int:
        if last > first:
            plan = ResidualsPlan(items, rows, columns, addresses[0], 1e-6, 1e-6, 4.0)
            pointers = [0, 0, *addresses[1:]] if alone else addresses[1:]
            getattr(library(), entry)(ctypes.byref(plan), *map(ctypes.c_void_p, pointers))
        return 0

    return Case(entry, 1, (z, *given, vectors, *results), call)


def _suffix(dtype: np.dtype[Any]) -> str:
    return f"{dtype.kind}{8 * dtype.itemsize}"


def _of_lapack(name: str, blas: int, kind: int, units: int, arguments: tuple[Argument, ...], plan: Any) -> Case:
    """A function of lapack.c, whose plan has the addresses."""
    entry = f"matfn_lapack_{name}"

    def call(addresses: list[int], first: int, last: int) -> int:
        packed = CALLS[name].pack(blas, kind, *plan(addresses))
        return int(getattr(library(), entry)(packed, ctypes.c_int64(first), ctypes.c_int64(last)))

    return Case(entry, units, arguments, call)


@st.composite
def _library_and_kind(draw: st.DrawFn) -> tuple[int, int, np.dtype[Any]]:
    kind = draw(st.integers(0, len(KINDS) - 1))
    return draw(st.sampled_from(sorted(lapack.libraries()))), kind, KINDS[kind]


@st.composite
def _operand(
    draw: st.DrawFn, items: int, rows: int, columns: int, dtype: np.dtype[Any]
) -> tuple[Argument, tuple[int, int, int]]:
    """Matrices (rows, columns) that may be shared, have gaps between rows or be stored as their transposes."""
    stored = draw(st.integers(0, 2))
    height, width = (columns, rows) if stored else (rows, columns)
    row, shared = width + draw(st.sampled_from([0, 0, 1, 5])), draw(st.booleans())
    content = draw(numbers(1 if shared else items, height, row, dtype=dtype))
    content[..., width:] = np.nan
    return Argument(content), (0 if shared else height * row, row, stored)


@st.composite
def products(draw: st.DrawFn) -> Case:
    """Products, with addition or without."""
    blas, kind, dtype = draw(_library_and_kind())
    items, m, k, n = draw(ITEMS), draw(SIZES), draw(SIZES), draw(SIZES)
    panel = draw(st.integers(1, max(m, 1)))
    x, left = draw(_operand(items, m, k, dtype))
    y, right = draw(_operand(items, k, n, dtype))
    alpha, beta = draw(st.sampled_from([(1.0, 0.0), (0.5, 2.0), (-1.0, 1.0)]))
    out = Argument(draw(numbers(items, m, n, dtype=dtype)), "inout") if beta else _blank(items, m, n, dtype=dtype)

    def plan(addresses: list[int]) -> tuple[float, ...]:
        return (m, k, n, panel, addresses[0], *left, addresses[1], *right, addresses[2], alpha, beta)

    return _of_lapack("products", blas, kind, items * -(-m // panel), (x, y, out), plan)


@st.composite
def substitutions(draw: st.DrawFn) -> Case:
    """Solutions with triangles."""
    blas, kind, dtype = draw(_library_and_kind())
    items, n, m = draw(ITEMS), draw(SIZES), draw(SIZES)
    t, triangle = draw(_operand(items, n, n, dtype))
    b, flags = draw(numbers(items, n, m, dtype=dtype)), (draw(st.booleans()), draw(st.booleans()))

    def plan(addresses: list[int]) -> tuple[int, ...]:
        return (n, m, *flags, addresses[0], *triangle, addresses[1])

    return _of_lapack("substitutions", blas, kind, items, (t, Argument(b, "inout")), plan)


@st.composite
def decompositions(draw: st.DrawFn, name: str) -> Case:
    """Factors, eigenvectors, singular vectors and inverses."""
    blas, kind, dtype = draw(_library_and_kind())
    items, n = draw(ITEMS), draw(SIZES)
    m = draw(SIZES) if name == "svd" else n
    a = draw(numbers(items, m, n, dtype=dtype))
    real, k = np.dtype(a.real.dtype), min(m, n)
    results = {
        "cholesky": [_blank(items, dtype=np.dtype(np.bool_))],
        "eigh": [_blank(items, n, dtype=real), _blank(items, n, n, dtype=dtype)],
        "svd": [_blank(items, m, k, dtype=dtype), _blank(items, k, dtype=real), _blank(items, k, n, dtype=dtype)],
        "inverses": [_blank(items, n, n, dtype=dtype)],
    }[name]
    orders = (m, n) if name == "svd" else (n,)
    given = Argument(a, "inout" if name == "cholesky" else "in")
    return _of_lapack(name, blas, kind, items, (given, *results), lambda addresses: (*orders, *addresses))


@st.composite
def schur(draw: st.DrawFn) -> Case:
    """Schur forms, which scipy's library has."""
    kind = draw(st.sampled_from([1, 3]))
    items, n = draw(ITEMS), draw(SIZES)
    results = [_blank(items, n, n, dtype=KINDS[3]) for _ in range(2)]
    a = Argument(draw(numbers(items, n, n, dtype=KINDS[kind])))
    blas = int(max(lapack.libraries()))
    return _of_lapack("schur", blas, kind, items, (a, *results), lambda addresses: (n, *addresses))


@st.composite
def real_schur(draw: st.DrawFn) -> Case:
    """Real Schur forms of matrices and of their transposes."""
    items, n, turned = draw(ITEMS), draw(SIZES), draw(st.booleans())
    results = [_blank(items, n, n, dtype=F64) for _ in range(2)]
    a = Argument(draw(numbers(items, n, n, dtype=F64)))
    blas = int(max(lapack.libraries()))
    return _of_lapack("real_schur", blas, 1, items, (a, *results), lambda addresses: (n, turned, *addresses))


SYLVESTER_RULES: Final = (0.25, 1.0, 1e-6, 4.0, 4.0, 2.0**-63, 2.0**-72)


@st.composite
def sylvester(draw: st.DrawFn) -> Case:
    """Equations with Schur forms, and with any other numbers in their places."""
    items, m, with_b = draw(ITEMS), draw(SIZES), draw(st.booleans())
    n = draw(SIZES) if with_b else m
    a, q = (draw(numbers(items, m, columns, dtype=F64)) for columns in (m, n))
    forms = [_schur_forms(a, draw)]
    if with_b:
        b = draw(numbers(items, n, n, dtype=F64))
        forms.append(_schur_forms(b.swapaxes(1, 2), draw))
    given = [a, q, *forms[0], *((b, *forms[1]) if with_b else ())]
    results = [_blank(items, m, n), _blank(items, len(fields(SylvesterFindings)))]
    settings = (m, n, *SYLVESTER_RULES, draw(st.sampled_from([1e-11, 0.0])), 1e-2)
    random, columns = _probes(m * n), [_probes(order) for order in (m, n)]

    def call(addresses: list[int], first: int, last: int) -> int:
        run: Any = library()
        at_a, at_q, at_t, at_u = addresses[:4]
        at_b, at_s, at_w = addresses[4:-2] or (None, None, None)
        tables = (table.ctypes.data for table in (random, *columns))
        plan = SylvesterPlan(*settings, at_a, at_b, at_q, at_t, at_u, at_s, at_w, *tables, *addresses[-2:])
        return int(run.matfn_sylvester(ctypes.byref(plan), *map(ctypes.c_int64, (first, last))))

    return Case("matfn_sylvester", items, (*map(Argument, given), *results), call)


def _schur_forms(a: Array, draw: st.DrawFn) -> tuple[Array, Array]:
    """T and U column by column, or numbers that are no Schur forms."""
    if not (np.isfinite(a).all() and a.size and draw(st.booleans())):
        return draw(numbers(*a.shape, dtype=F64)), draw(numbers(*a.shape, dtype=F64))
    pairs = [scipy.linalg.schur(one) for one in a]
    return np.stack([t.T for t, _ in pairs]), np.stack([u.T for _, u in pairs])


@st.composite
def riccati(draw: st.DrawFn) -> Case:
    """Riccati equations in either time, with gains and without."""
    blas, kind, dtype = draw(_library_and_kind().filter(lambda found: found[1] in {1, 3}))
    items, n, m, gain = draw(ITEMS), draw(SMALL), draw(SMALL), draw(st.booleans())
    settings = (draw(st.booleans()), draw(st.booleans()), 40, 1e-8, 1e-9, 2.0**-14, 1e100)
    given = tuple(Argument(draw(numbers(items, *shape, dtype=dtype))) for shape in ((n, n), (n, m), (n, n), (m, m)))
    results = (_blank(items, n, n, dtype=dtype), *([_blank(items, m, n, dtype=dtype)] if gain else []))
    found = _blank(items, len(fields(RiccatiFindings)))

    def plan(addresses: list[int]) -> tuple[float, ...]:
        return (n, m, *settings, *addresses[:5], addresses[5] if gain else 0, addresses[-1])

    return _of_lapack("riccati", blas, kind, items, (*given, *results, found), plan)


@st.composite
def upper_functions(draw: st.DrawFn) -> Case:
    """Logarithms and powers of upper triangles."""
    items, order, exponent = draw(ITEMS), draw(SMALL), draw(st.sampled_from([0.0, 0.3, -0.9]))
    t = draw(numbers(items, order, order, dtype=KINDS[3])) + draw(st.sampled_from([0, 3])) * np.eye(order)
    tables = np.array([[0.25, 0.5], [0.75, 0.5]]), np.array([0.2, 0.8]), _probes(order * order)
    settings = (order, exponent == 0, 2, 13, exponent, 0.25, 4.0)

    def plan(count: int) -> UpperPlan:
        return UpperPlan(count, *settings, *(table.ctypes.data for table in tables))

    results = _blank(items, order, order, dtype=KINDS[3]), _blank(items, len(fields(UpperFindings)))
    return _of_batch("upper_functions", "c128", plan, (Argument(t), *results))


@st.composite
def balls(draw: st.DrawFn) -> Case:
    """Programs in which every step occurs."""
    items, m, n, doubled = draw(ITEMS), draw(SIZES.filter(bool)), draw(SIZES.filter(bool)), draw(st.booleans())
    a, x = draw(numbers(items, n, n, dtype=F32)), draw(numbers(items, m, n, dtype=F64))
    exponents = np.array(draw(st.lists(st.integers(-1200, 1200), min_size=items, max_size=items)), np.int64)
    unread, symmetric = draw(st.sampled_from([None, *Half])), draw(st.booleans())
    arguments, entry = tuple(map(Argument, (a, x, exponents))), "matfn_balls"

    def program(addresses: list[int]) -> Tape:
        tape = Tape(items)
        ones = tape.record(Step.DIAGONAL, (n, n), (), doubled=False, at=0)
        given = {"at": addresses[0], "single": 1, "unread": unread or 0, "exponents": addresses[2]}
        left = tape.record(Step.GIVEN, (n, n), (), doubled=False, **given).as_doubled(doubled)
        tall = tape.record(Step.GIVEN, (m, n), (), doubled=False, at=addresses[1]).as_doubled(doubled)
        gram = tall.mT.times(tall, symmetric=symmetric)
        total = gram.plus(left.times(ones, symmetric=False).mT, sign=-1.0, factor=0.5)
        factor = total.factored()
        inverse = factor.inverted()
        tall.times(total.rounded(), symmetric=False).plus(tall, sign=1.0, factor=1.0).mT.times(tall, symmetric=True)
        inverse.mT.inverted().times(total.strictly_lower(), symmetric=False).wider(gram.times(factor, symmetric=False))
        left.mT.rows_like(left.mT)
        return tape

    def call(addresses: list[int], first: int, last: int) -> int:
        run: Any = library()
        plan, kept = compiled(program(addresses).entries, items, addresses[-1])
        status = int(run.matfn_balls(ctypes.byref(plan), *map(ctypes.c_int64, (first, last))))
        del kept
        return status

    steps = len(program([0] * 4).entries)
    return Case(entry, items, (*arguments, _blank(steps, BALL_FACTS, items)), call)


CASES: Final[dict[str, st.SearchStrategy[Case]]] = {
    **{
        f"matfn_{make.__name__}_{_suffix(x)}": make(x)
        for make in (roots, triangles, low_rank, spectral, clips, svd, gram_polar)
        for x in (F32, F64)
    },
    **{f"matfn_eigh_{_suffix(x)}": eigh(x) for x in KINDS},
    **{f"matfn_{name}_{_suffix(x)}": reductions(name, x) for name in ("sums", "norms", "peaks") for x in (F32, F64)},
    **{
        f"matfn_{make.__name__}_{_suffix(x)}": make(x)
        for make in (multiples, triangle_peaks, symmetric_peaks, solves)
        for x in (F32, F64)
    },
    **{f"matfn_{make.__name__}_f32": make() for make in (polar, gram, image)},
    "matfn_exponentials_f64": exponentials(),
    "matfn_random_numbers": random_numbers(),
    "matfn_balls": balls(),
    "matfn_lapack_schur": schur(),
    "matfn_lapack_real_schur": real_schur(),
    "matfn_sylvester": sylvester(),
    "matfn_lapack_riccati": riccati(),
    "matfn_upper_functions_c128": upper_functions(),
    **{f"matfn_unexplained_{_suffix(x)}": residuals(x) for x in (F32, F64)},
    **{f"matfn_lapack_{make.__name__}": make() for make in (products, substitutions)},
    **{f"matfn_lapack_{name}": decompositions(name) for name in ("cholesky", "eigh", "svd", "inverses")},
}
"""Calls by function."""
