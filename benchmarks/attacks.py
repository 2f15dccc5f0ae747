"""What a hostile caller sends: bodies that cost more than they weigh, and HTTP that is none.

Each attack is one or more raw requests on connections of its own. Sizes are those at which the fault was found, or
above.
"""

from __future__ import annotations

import json
import socket
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias, cast

import msgpack
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import ArrayLike

__all__ = ["ATTACKS", "Address", "Attack", "launched"]

Address: TypeAlias = "tuple[str, int]"

_SECONDS: Final = 60.0
"""How long a caller waits for bytes: an attack without an answer by then is a hang."""
_JSON: Final = "application/json"
_MSGPACK: Final = "application/msgpack"


@dataclass(frozen=True)
class Attack:
    """Requests, each sent on a connection of its own, all at once.

    Attributes:
        requests: the bytes of each.
        reads: whether the caller reads its answers.
        statuses: those that an answer may have.
    """

    requests: Callable[[], Sequence[bytes]]
    statuses: frozenset[int]
    reads: bool = True


def exchange(address: Address, content: bytes, *, reads: bool) -> tuple[int, ...]:
    """The statuses of all answers on one connection, 0 where there is none; nothing if it was closed without one."""
    with socket.create_connection(address, timeout=_SECONDS) as connection:
        try:
            connection.sendall(content)
            if not reads:
                return ()
            return _statuses(_everything(connection))
        except TimeoutError:
            return (0,)
        except OSError:  # refused before all was sent
            return ()


def _everything(connection: socket.socket) -> bytes:
    content = bytearray()
    while piece := connection.recv(1 << 20):
        content += piece
    return bytes(content)


def _statuses(answers: bytes) -> tuple[int, ...]:
    """The status of each answer that begins a line; the numbers of matrices hold no such line by chance."""
    lines = [line for line in answers.split(b"HTTP/1.1 ")[1:] if line[:3].isdigit() and line[3:4] == b" "]
    return tuple(int(line[:3]) for line in lines)


def _request(path: str, body: bytes, media: str = _MSGPACK, *headers: str) -> bytes:
    lines = [f"POST /v1/{path} HTTP/1.1", "Host: attacked", f"Content-Type: {media}", f"Accept: {media}", *headers]
    return "\r\n".join([*lines, f"Content-Length: {len(body)}", _CLOSE, "", ""]).encode() + body


def _tensor(shape: Sequence[int], dtype: str = "float32", numbers: ArrayLike = 0) -> dict[str, object]:
    array = np.broadcast_to(np.asarray(numbers, dtype), shape)
    return {"dtype": dtype, "shape": list(shape), "data": array.tobytes()}


def _call(inputs: Mapping[str, object], **params: object) -> dict[str, object]:
    return {"inputs": inputs, "params": params, "options": {}}


def _packed(tree: object) -> bytes:
    packed: bytes = msgpack.packb(tree)
    return packed


def _alone(function: str, inputs: Mapping[str, object], **params: object) -> bytes:
    return _request(function, _packed(_call(inputs, **params)))


def _many(calls: Sequence[Mapping[str, object]]) -> bytes:
    return _request("calls", _packed({"calls": calls}))


def _broadcast(calls: int, items: int) -> bytes:
    """Triangular systems whose right-hand sides are empty and are broadcast with the triangles."""
    triangle = _tensor((2, 1, 60, 60), numbers=np.eye(60))
    call = {"function": "tri_solve", **_call({"t": triangle, "b": _tensor((1, items, 60, 0))})}
    return _many([call] * calls)


def _asymmetric(**options: object) -> bytes:
    a = _tensor((65536, 2, 2), "float16", [[1, 2], [0, 1]])
    return _request("inv_root", _packed({**_call({"a": a}, r=2), "options": options}))


def _base64() -> bytes:
    """Triangles as 40 MB of base64 in JSON."""
    t = _tensor((7500, 32, 32), numbers=np.eye(32))
    text = {**t, "data": b64encode(cast("bytes", t["data"])).decode()}
    return _request("tri_inv", json.dumps(_call({"t": text})).encode(), _JSON)


def _lists_in_parameters() -> bytes:
    tree = _call({"a": _tensor((2, 2), numbers=np.eye(2))}, r=2, coefficients=[[[]] * 3] * 240_000)
    return _request("inv_root", _packed(tree))


def _empty_lists() -> bytes:
    return _request("inv_root", b'{"inputs":[' + b"[]," * 10_000_000 + b"[]]}", _JSON)


def _deep() -> bytes:
    return _request("inv_root", b"[" * 1_000_000, _JSON)


def _large_number() -> bytes:
    tree = {"inputs": {"a": {"dtype": "float64", "shape": [1, 1], "data": [1]}}, "params": {"r": 0}}
    return _request("inv_root", json.dumps(tree).replace('"r": 0', '"r": ' + "9" * 1_000_000).encode(), _JSON)


def _tiny_calls(count: int, *, alike: bool) -> bytes:
    one = _tensor((1, 1), numbers=1)
    calls = [
        {"function": "eig_clip", **_call({"a": one}, lo=0.0 if alike else float(number))} for number in range(count)
    ]
    return _many(calls)


def _logits() -> bytes:
    return _alone("max_logit", {"q": _tensor((64, 8192, 1), numbers=1), "k": _tensor((1, 8192, 1), numbers=1)})


def _escalating() -> bytes:
    a = _tensor((2000, 4, 4), "float32", np.diag([1, 1e-5, 1e-10, 1e-15]))
    return _alone("inv_root", {"a": a}, r=4)


def _outputs_of_nothing(items: int) -> bytes:
    return _alone("max_logit", {"q": _tensor((items, 8192, 1, 0)), "k": _tensor((items, 8192, 1, 0))})


def _large_answer() -> bytes:
    return _alone("eig_clip", {"a": _tensor((64, 256, 256), numbers=np.eye(256))})


def _head(*lines: str) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode()


_CLOSE: Final = "Connection: close"
_GET: Final = ("GET /healthz HTTP/1.1", "Host: attacked")
_POST: Final = ("POST /v1/inv_root HTTP/1.1", "Host: attacked", f"Content-Type: {_MSGPACK}")
_REFUSED: Final = frozenset({400, 413, 422, 429, 431})
_ANSWERED: Final = frozenset({200})

ATTACKS: Final[Mapping[str, Attack]] = {
    "40 calls that broadcast to 3.6 GB": Attack(lambda: [_broadcast(40, 2048)], _REFUSED | _ANSWERED),
    "one call that broadcasts to 2 GB": Attack(lambda: [_broadcast(1, 60_000)], _REFUSED | _ANSWERED),
    "65 536 asymmetric matrices": Attack(lambda: [_asymmetric()], _REFUSED),
    "65 536 asymmetric matrices, each told": Attack(lambda: [_asymmetric(on_failure="nan")], _REFUSED | _ANSWERED),
    "40 MB of base64 in JSON": Attack(lambda: [_base64()], _REFUSED | _ANSWERED),
    "720 000 lists in a parameter": Attack(lambda: [_lists_in_parameters()], _REFUSED),
    "10 million empty lists in JSON": Attack(lambda: [_empty_lists()], _REFUSED),
    "a million open brackets": Attack(lambda: [_deep()], _REFUSED),
    "a million digits": Attack(lambda: [_large_number()], _REFUSED),
    "65 536 tiny calls": Attack(lambda: [_tiny_calls(65536, alike=True)], _REFUSED | _ANSWERED),
    "20 000 calls that share no batch": Attack(lambda: [_tiny_calls(20_000, alike=False)], _REFUSED | _ANSWERED),
    "products that look expensive": Attack(lambda: [_logits()] * 5, _ANSWERED),
    "matrices that escalate": Attack(lambda: [_escalating()] * 2, _ANSWERED | {422, 429}),
    "outputs of nothing, 500 MB": Attack(lambda: [_outputs_of_nothing(16384)], _REFUSED | _ANSWERED),
    "answers that nobody reads": Attack(lambda: [_large_answer()] * 8, _ANSWERED, reads=False),
    "upgrade to h2c": Attack(lambda: [_head(*_GET, "Upgrade: h2c", "Connection: Upgrade, close")], _ANSWERED),
    "upgrade in a second request": Attack(
        lambda: [_head(*_GET) + _head(*_GET, "Upgrade: h2c", "Connection: Upgrade") + _head(*_GET, _CLOSE)],
        _ANSWERED,
    ),
    "two keys": Attack(
        lambda: [_head("GET /v1/functions HTTP/1.1", *_GET[1:], *["Authorization: Bearer a"] * 2, _CLOSE)],
        frozenset({400}),
    ),
    "no host": Attack(lambda: [_head(_GET[0], _CLOSE)], frozenset({400})),
    "a length of 19 digits": Attack(lambda: [_head(*_POST, "Content-Length: " + "9" * 19, _CLOSE)], frozenset({413})),
    "an unknown coding": Attack(lambda: [_head(*_POST, "Transfer-Encoding: gzip, chunked", _CLOSE)], frozenset({501})),
    "240 KB of headers": Attack(lambda: [_head(*_GET, *["a:"] * 60_000, _CLOSE)], frozenset({431})),
    "CONNECT": Attack(lambda: [_head("CONNECT a:99999 HTTP/1.1", "Host: a:99999", _CLOSE)], frozenset({400, 404, 405})),
    "a port beyond all": Attack(
        lambda: [_head("GET http://a:99999/ HTTP/1.1", "Host: a", _CLOSE)], frozenset({400, 404})
    ),
    "200 pipelined requests": Attack(lambda: [_head(*_GET) * 199 + _head(*_GET, _CLOSE)], _ANSWERED | _REFUSED),
    "half of a head": Attack(lambda: [b"GET /healthz HT"] * 50, frozenset({400, 408})),
}


def launched(address: Address, attack: Attack) -> list[tuple[int, ...]]:
    """The statuses of the answers to each request of an attack."""
    requests = attack.requests()
    with ThreadPoolExecutor(len(requests)) as callers:
        return list(callers.map(lambda request: exchange(address, request, reads=attack.reads), requests))
