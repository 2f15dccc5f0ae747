"""Symmetric matrices survive the way through one triangle bit for bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn import triangles, wire
from matfn.triangles import in_triangle, rows_in_triangle, whole

REAL = ("float16", "bfloat16", "float32", "float64")
leads = st.lists(st.integers(0, 3), max_size=2).map(tuple)


def words(dtype: str, lead: tuple[int, ...], order: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Symmetric matrices of random bits: NaN, infinities, subnormals and both zeros among them."""
    size = wire.ITEM_BYTES[dtype]
    drawn = np.random.default_rng(seed).integers(0, 2 ** (8 * size), (*lead, order, order), f"u{size}")
    return np.where(np.tri(order, dtype=bool), drawn, np.swapaxes(drawn, -1, -2))


def tensor_of(dtype: str, matrices: np.ndarray[Any, Any]) -> wire.Tensor:
    """The matrices, whole."""
    return wire.Tensor(dtype, matrices.shape, matrices.tobytes())


@pytest.mark.parametrize("uplo", ["L", "U"])
@pytest.mark.parametrize("block_entries", [1 << 20, 7])
@given(st.sampled_from(REAL), leads, st.integers(0, 9), st.integers(0, 99))
def test_there_and_back(
    block_entries: int, uplo: Literal["L", "U"], dtype: str, lead: tuple[int, ...], order: int, seed: int
) -> None:
    """The triangle of symmetric matrices has half of their bytes, and all of their bits."""
    sent = tensor_of(dtype, words(dtype, lead, order, seed))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triangles, "_BLOCK_ENTRIES", block_entries)
        part = in_triangle(sent, uplo)
        back = whole(part)

    assert part.nbytes == (sent.nbytes * (order + 1) // (2 * order) if order else 0)
    assert (back.dtype, back.shape, bytes(back.data), back.uplo) == (sent.dtype, sent.shape, sent.data, None)


@pytest.mark.parametrize("order", [1, 2, 65, 130])
@pytest.mark.parametrize("uplo", ["L", "U"])
def test_triangle_is_row_by_row(order: int, uplo: Literal["L", "U"]) -> None:
    """L holds the first i + 1 entries of row i, U the entries from the diagonal on."""
    a = words("float32", (2,), order)
    rows = [a[k, i, : i + 1] if uplo == "L" else a[k, i, i:] for k in range(2) for i in range(order)]

    back = whole(wire.Tensor("float32", a.shape, np.concatenate(rows).tobytes(), uplo))

    assert bytes(back.data) == a.tobytes()
    assert bytes(in_triangle(tensor_of("float32", a), uplo).data) == np.concatenate(rows).tobytes()


@pytest.mark.parametrize("uplo", ["L", "U"])
def test_pieces_become_triangles_together(uplo: Literal["L", "U"]) -> None:
    """The triangles of pieces follow each other; one piece that is not symmetric leaves all of them whole."""
    a = words("float32", (3,), 5)
    rows = wire.Rows("float32", (1, 3, 5, 5), [memoryview(a[:2].tobytes()), memoryview(a[2:].tobytes())])
    part = rows_in_triangle(rows, uplo)
    asymmetric = replace(rows, pieces=[*rows.pieces, memoryview(np.arange(25, dtype="f4").tobytes())])

    packed = wire.Tensor("float32", (1, 3, 5, 5), b"".join(part.pieces), uplo)
    assert part.uplo == uplo
    assert bytes(whole(packed).data) == a.tobytes()
    assert rows_in_triangle(asymmetric, uplo) is asymmetric


def test_lower_triangle_is_what_is_sent() -> None:
    """The rows of the lower triangle follow each other."""
    a = np.array([[1, 2, 4], [2, 3, 5], [4, 5, 6]], "f4")

    part = in_triangle(tensor_of("float32", a))

    assert part.uplo == "L"
    assert np.frombuffer(part.data, "f4").tolist() == [1, 2, 3, 4, 5, 6]


@pytest.mark.parametrize("place", [(0, 1), (70, 3), (99, 98)])
def test_one_bit_of_asymmetry_is_kept(place: tuple[int, int]) -> None:
    """A zero with another sign than its mirror image is a different matrix, which is sent whole."""
    a = np.zeros((3, 100, 100))
    a[(2, *place)] = -0.0
    sent = tensor_of("float64", a)

    assert in_triangle(sent) is sent


@pytest.mark.parametrize(
    "sent",
    [
        wire.Tensor("complex64", (1, 1), bytes(8)),
        wire.Tensor("float32", (2, 3), bytes(24)),
        wire.Tensor("float32", (3,), bytes(12)),
        wire.Tensor("float32", (), bytes(4)),
        wire.Tensor("float32", (0, 2, 2), b""),
    ],
)
def test_what_has_no_triangle_is_sent_as_it_is(sent: wire.Tensor) -> None:
    """Complex, rectangular and empty tensors, vectors and scalars stay themselves."""
    assert in_triangle(sent) is sent
    assert whole(sent) is sent
