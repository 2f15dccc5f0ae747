"""msgpack for Schemathesis: bodies that it makes for JSON are sent as msgpack too, and such answers are checked."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import msgpack
import schemathesis


@schemathesis.serializer("application/msgpack")
def packed(context: Any, value: Any) -> bytes:
    """A body as it is sent, its texts as they are."""
    del context
    return bytes(msgpack.packb(_narrowed(value), unicode_errors="surrogatepass"))


@schemathesis.deserializer("application/msgpack", "application/problem+msgpack")
def unpacked(context: Any, response: Any) -> Any:
    """An answer as JSON would have it."""
    del context
    return _in_text(msgpack.unpackb(response.content))


def _narrowed(tree: Any) -> Any:
    """Integers beyond 64 bits as floats, which is all that msgpack has for them."""
    if isinstance(tree, dict):
        return {key: _narrowed(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_narrowed(entry) for entry in tree]
    is_wide = isinstance(tree, int) and not -(2**63) <= tree < 2**64
    return float(min(max(tree, -(2**1000)), 2**1000)) if is_wide else tree


def _in_text(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: _in_text(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_in_text(entry) for entry in tree]
    return b64encode(tree).decode() if isinstance(tree, bytes) else tree
