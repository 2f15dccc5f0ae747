"""Checks an installed wheel without torch: a call is encoded and decoded, the library of the C kernels loads."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np

import matfn
from matfn import wire

SITE = Path(matfn.__file__).parents[1]


def variant() -> str:
    """The instruction set that the library of the C kernels has chosen."""
    library = ctypes.CDLL(str(SITE / "matfn_kernels" / "native" / "libmatfn_native.so"))
    library.matfn_native_variant.restype = ctypes.c_char_p
    name: bytes = library.matfn_native_variant()
    return name.decode()


def round_trip() -> bool:
    """Whether a call is the same after it was encoded and decoded."""
    a = np.eye(3)
    call = wire.Call("msign", {"m": wire.Tensor("float64", a.shape, a.tobytes())}, {}, {})
    body = b"".join(wire.encode_call(call, wire.Media.MSGPACK))
    found = wire.decode_call(body, wire.Media.MSGPACK, "msign").inputs["m"]
    return (found.dtype, tuple(found.shape), bytes(found.data)) == ("float64", (3, 3), a.tobytes())


def main() -> int:
    """Prints what is installed."""
    print(f"Python {sys.version.split()[0]}, matfn {matfn.__version__} in {SITE.name}, kernels in C: {variant()}")
    return int(not round_trip())


if __name__ == "__main__":
    sys.exit(main())
