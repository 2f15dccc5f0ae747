"""Tensors cross the wire without copies, whatever their memory."""

from __future__ import annotations

from contextlib import suppress
from math import prod
from typing import Literal

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from matfn import wire
from matfn_service.problems import Refusal
from matfn_service.tensors import from_wire, layout_of, rows_to_wire, spread

dtypes = st.sampled_from(list(wire.ITEM_BYTES))
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@given(dtypes, shapes, st.integers(0, 9), st.sampled_from([bytes, bytearray, memoryview]))
def test_there_and_back(dtype: str, shape: tuple[int, ...], offset: int, kind: type) -> None:
    """A tensor comes back bit for bit from any memory, aligned or not, writable or not."""
    size = int(np.prod(shape)) * wire.ITEM_BYTES[dtype]
    octets = np.random.default_rng(0).integers(0, 255, offset + size, np.uint8).tobytes()
    sent = wire.Tensor(dtype, shape, memoryview(kind(octets))[offset:])
    tensor = from_wire(sent)
    back = rows_to_wire([tensor], shape[:1])

    assert tensor.data_ptr() % tensor.dtype.itemsize == 0
    assert (back.dtype, back.shape, b"".join(back.pieces)) == (dtype, shape, octets[offset:])


sizes = st.sampled_from([0, 1, 2, 3, 2**20, 2**29, 2**31 - 1])


@given(st.lists(sizes, max_size=3), sizes, st.sampled_from(["L", "U"]))
def test_triangle_of_any_size_is_refused_or_read(lead: list[int], order: int, uplo: Literal["L", "U"]) -> None:
    """What holds nothing may claim any size, at no cost; the rest has the shape that it says."""
    shape = (*lead, order, order)
    entries = prod(lead) * order * (order + 1) // 2
    assume(entries < 1000)

    with suppress(Refusal):
        assert from_wire(wire.Tensor("float32", shape, bytes(4 * entries), uplo)).shape == shape


def test_writable_memory_is_not_copied() -> None:
    """The torch tensor lies where the message lies, and the answer where the torch tensor lies."""
    memory = bytearray(64)
    tensor = from_wire(wire.Tensor("float32", (4, 4), memory))
    memory[:4] = np.float32(7).tobytes()
    (answer,) = rows_to_wire([tensor], (2, 2)).pieces
    tensor[0, 1] = 8.0

    assert tensor[0, 0] == 7.0
    assert np.frombuffer(answer, np.float32)[1] == 8.0


def test_conjugates_and_transposes_are_resolved() -> None:
    """Lazy views are written out as what they mean."""
    z = torch.tensor([[1 + 2j, 3 + 4j], [5 + 6j, 7 + 8j]])

    (octets,) = rows_to_wire([z.mH], (2,)).pieces

    assert np.frombuffer(octets, np.complex64).tolist() == [1 - 2j, 5 - 6j, 3 - 4j, 7 - 8j]


def test_rows_lie_where_they_were_computed() -> None:
    """Pieces of one tensor are sent from where each lies, under the leading dimensions of the call."""
    pieces = [torch.full((rows, 2), float(rows)) for rows in (1, 3)]
    rows = rows_to_wire(pieces, (2, 2))

    assert rows.shape == (2, 2, 2)
    assert np.frombuffer(b"".join(rows.pieces), np.float32).tolist() == [1.0] * 2 + [3.0] * 6
    pieces[1][2, 1] = 9.0
    assert np.frombuffer(rows.pieces[1], np.float32)[-1] == 9.0


@pytest.mark.parametrize("shape", [(1,) * 65, (2**31 - 1, 2**31 - 1, 2**31 - 1, 0)])
def test_impossible_shapes_are_refused(shape: tuple[int, ...]) -> None:
    """A shape that no tensor can have is the caller's mistake, even if it holds nothing."""
    data = bytes(4) if 0 not in shape else b""
    with pytest.raises(Refusal, match="no tensor can have the shape"):
        from_wire(wire.Tensor("float32", shape, data))
    with pytest.raises(Refusal, match="no tensor can have the shape"):
        layout_of(wire.Tensor("float32", shape, data))


@pytest.mark.parametrize(
    ("sent", "lead", "copied"),
    [
        ((6, 5), (4, 3), False),
        ((1, 1, 6, 5), (4, 3), False),
        ((4, 1, 6, 5), (4, 3), True),
        ((1, 3, 6, 5), (4, 3), True),
        ((4, 3, 6, 5), (4, 3), False),
        ((2, 1, 300, 300), (2, 3), True),
        ((0, 1, 2, 2), (0, 3), False),
    ],
)
def test_inputs_are_copied_only_where_no_strides_describe_them(
    sent: tuple[int, ...], lead: tuple[int, ...], copied: bool
) -> None:
    """A broadcast tensor has the numbers of torch's own, in the memory of what was sent where that is possible."""
    tensor = torch.randn(sent, generator=torch.Generator().manual_seed(1))
    shape = (prod(lead), *sent[-2:])

    found = spread(tensor, lead, shape)

    assert torch.equal(found, tensor.expand(*lead, *sent[-2:]).reshape(shape))
    assert (found.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()) == copied
