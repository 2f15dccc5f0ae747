"""Heads of requests: what a service reads in them, and the formats of bodies and answers that they name.

A head is parsed once, into a Head; nothing else reads its headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from random import getrandbits
from typing import TYPE_CHECKING, Final

from matfn import wire
from matfn._aligned import OFFSET_HEADER, offset_in
from matfn.segments import SEGMENT_HEADER
from matfn.triangles import TRIANGLE_HEADER
from matfn_service.problems import Refusal
from matfn_service.segments import parse_claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from starlette.types import Scope

    from matfn_service.segments import Claim

__all__ = [
    "Head",
    "accepted_media",
    "is_inference",
    "media_of",
    "parse_head",
    "refuse_two_keys",
    "request_id_of",
    "require_identity",
]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")
_REQUEST_ID_BITS: Final = 128
_LENGTH_DIGITS: Final = 18
_OFFSET: Final = OFFSET_HEADER.encode()
_TRIANGLE: Final = TRIANGLE_HEADER.encode()
_UPLOS: Final[Mapping[bytes, wire.Uplo]] = {b"L": "L", b"U": "U"}
_SEGMENT: Final = SEGMENT_HEADER.encode()
_INFERENCE_ROOTS: Final = ("/v2/", "/inference.")  # over HTTP, and over gRPC
_INFERENCE: Final = b"inference-header-content-length"
_MEDIA: Final = {
    "application/msgpack": wire.Media.MSGPACK,
    "application/x-msgpack": wire.Media.MSGPACK,
    "application/vnd.msgpack": wire.Media.MSGPACK,
    wire.Media.MSGPACK.problem: wire.Media.MSGPACK,
    "application/json": wire.Media.JSON,
    wire.Media.JSON.problem: wire.Media.JSON,
}


@dataclass(frozen=True, slots=True)
class Head:
    """Head of a request.

    Attributes:
        method: the HTTP method.
        path: the path, decoded.
        request_id: the caller's X-Request-Id if it is a good one, else a new one.
        arrived: when the head had come, on the service's clock.
        key: the bearer token, if any.
        content_type: without parameters, in lower case; empty if there is none.
        encoding: the Content-Encoding in lower case.
        length: the declared length of the body; None if it is chunked or absent.
        offset: where in the body its first tensor begins, if the sender says so.
        claim: shared memory in which the body lies instead.
        triangle: the triangle that symmetric outputs are to be answered as; None: whole.
        inference: the Inference-Header-Content-Length as it was sent; empty if it was not.
        has_body: whether a body follows.
        expects_continue: whether the sender waits for a sign before it sends the body.
        answer: the format of the answer, problem or not.
    """

    method: str
    path: str
    request_id: str
    arrived: float
    key: bytes
    content_type: str
    encoding: str
    length: int | None
    offset: int
    claim: Claim | None
    triangle: wire.Uplo | None
    inference: bytes
    has_body: bool
    expects_continue: bool
    answer: wire.Media


def parse_head(scope: Scope, now: float) -> Head:
    """The head of an HTTP request; anything odd in it is taken as absent."""
    headers = dict(scope["headers"])
    declared = headers.get(b"content-length", b"")
    length = _length(declared) if declared.isdigit() else None
    claim = parse_claim(headers[_SEGMENT].decode("latin-1")) if _SEGMENT in headers else None
    scheme, _, key = headers.get(b"authorization", b"").partition(b" ")
    content_type, encoding, answer = _formats(
        headers.get(b"content-type", b""), headers.get(b"content-encoding", b""), headers.get(b"accept", b"")
    )
    to_inference, inference = is_inference(scope["path"]), headers.get(_INFERENCE, b"")
    if inference:  # two of them would be two places where the JSON ends; joined as HTTP joins them they are no number
        inference = b", ".join(value for name, value in scope["headers"] if name == _INFERENCE)
    return Head(
        method=scope["method"],
        path=scope["path"],
        request_id=_request_id(headers),
        arrived=now,
        key=key.strip() if scheme.lower() == b"bearer" else b"",
        content_type=content_type,
        encoding=encoding,
        length=length if claim is None else claim.length,
        claim=claim,
        triangle=None if to_inference else _UPLOS.get(headers.get(_TRIANGLE, b"")),
        inference=inference,
        offset=offset_in((inference if to_inference else headers.get(_OFFSET, b"")).decode("latin-1")),
        has_body=bool(length) or b"transfer-encoding" in headers,
        expects_continue=headers.get(b"expect", b"").lower() == b"100-continue",
        answer=wire.Media.JSON if to_inference else answer,
    )


def is_inference(path: str) -> bool:
    """Whether a path belongs to the Open Inference Protocol."""
    return path.startswith(_INFERENCE_ROOTS) or path == "/v2"


@lru_cache(maxsize=64)  # callers come with the same few again and again
def _formats(content_type: bytes, encoding: bytes, accept: bytes) -> tuple[str, str, wire.Media]:
    """Content type and encoding of the body, and the format of the answer."""
    kind = _token(content_type)
    return kind, _token(encoding), accepted_media(accept.decode("latin-1"), _MEDIA.get(kind, wire.Media.JSON))


def _length(digits: bytes) -> int:
    """A declared length; one of more digits than any body has is as good as another."""
    return int(digits) if len(digits) <= _LENGTH_DIGITS else int(digits.lstrip(b"0")[: _LENGTH_DIGITS + 1] or b"0")


def request_id_of(headers: Iterable[tuple[bytes, bytes]]) -> str:
    """The caller's X-Request-Id if it is a good one, else a new one."""
    return _request_id(dict(headers))


def _request_id(headers: Mapping[bytes, bytes]) -> str:
    named = headers.get(b"x-request-id", b"").decode("latin-1")
    return named if _REQUEST_ID.fullmatch(named) else f"{getrandbits(_REQUEST_ID_BITS):032x}"


def _token(value: bytes) -> str:
    return value.decode("latin-1").partition(";")[0].strip().lower()


def accepted_media(accept: str, otherwise: wire.Media) -> wire.Media:
    """The format that an Accept header prefers; `otherwise` if it has no preference or knows neither."""
    best, chosen = 0.0, otherwise
    for entry in accept.split(","):
        name, _, parameters = entry.partition(";")
        media = otherwise if "*" in name else _MEDIA.get(name.strip().lower())
        quality = _quality(parameters)
        if media is not None and (quality > best or (quality == best and media is otherwise)):
            best, chosen = quality, media
    return chosen


def _quality(parameters: str) -> float:
    found = re.search(r"(?:^|;)\s*q=([01](?:\.\d{0,3})?)\s*(?:;|$)", parameters)
    return float(found[1]) if found else 1.0


def media_of(head: Head) -> wire.Media:
    """The format of the request's body.

    Raises:
        Refusal: `unsupported_media_type` if it is neither msgpack nor JSON, or is compressed.
    """
    require_identity(head)
    media = _MEDIA.get(head.content_type)
    if media is None:
        raise Refusal("unsupported_media_type", f"the body has Content-Type {head.content_type or 'nothing'}")
    return media


def require_identity(head: Head) -> None:
    """Refuses a compressed body.

    Raises:
        Refusal: `unsupported_media_type`.
    """
    if head.encoding not in {"", "identity"}:
        raise Refusal(
            "unsupported_media_type",
            f"the body has Content-Encoding {head.encoding}",
            "send it as it is: matrices of floats hardly compress",
        )


def refuse_two_keys(headers: Sequence[tuple[bytes, bytes]]) -> None:
    """Refuses a request that others on its way may have judged by another key.

    Raises:
        Refusal: `malformed`.
    """
    if sum(name == b"authorization" for name, _ in headers) > 1:
        raise Refusal("malformed", "the request has more than one Authorization header")
