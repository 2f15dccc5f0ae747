"""Answers to damaged requests: received, judged by what every answer must have, and compared with one another."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import msgpack

from matfn.errors import TABLE
from matfn.wire import DecodeError, Media, decode_answer, decode_answers

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mutants import Mutant

__all__ = ["HANG_SECONDS", "LOAD", "Answered", "Verdict", "differ", "exchanged", "faults_of", "verdict_of"]

Verdict: TypeAlias = "tuple[int, str]"

HANG_SECONDS: Final = 30.0
"""An answer that has not come by then is a hang; small calls take milliseconds."""
LOAD: Final = frozenset({429, 503, 504})
"""Statuses that depend on what else the server does."""
_CLOSED: Final = 0
_HANG: Final = -1
_KNOWN: Final = frozenset({200, *(row.status for row in TABLE.values()), 408, 410, 431, 501, 505})
_OTHER_STATUSES: Final = frozenset(
    {*((status, "malformed") for status in (405, 408, 410, 431, 501, 505)), (503, "busy"), (503, "internal")}
)
_MEMBERS: Final = frozenset({"type", "title", "status", "detail", "code", "hint", "request_id"})
_VARIABLE: Final = frozenset({"timing", "request_id"})
_BY_LOAD: Final = "by load"


@dataclass(frozen=True, slots=True)
class Answered:
    """One answer.

    Attributes:
        status: 0 where the connection was closed without one, -1 where nothing came.
        headers: by their names in lower case.
        body: of it.
        seconds: until it was there.
        was_ended: whether the sender had closed its side before.
    """

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float
    was_ended: bool = False

    @property
    def media(self) -> Media | None:
        """The format of its body, if it is one of the two."""
        kind = self.headers.get("content-type", "")
        return next((media for media in Media if kind in {media.value, media.problem}), None)

    @property
    def tree(self) -> Any:
        """The body, decoded.

        Raises:
            ValueError: if it cannot be.
        """
        if self.media is Media.MSGPACK:
            return msgpack.unpackb(self.body)
        return json.loads(self.body, parse_constant=_no_json)


def _no_json(word: str) -> None:
    raise ValueError(f"{word} is no JSON")


def exchanged(
    connect: Callable[[], socket.socket], mutant: Mutant, cuts: Sequence[int] = (), patience: float = 1.0
) -> Answered:
    """The answer to a request that is sent on a connection of its own.

    Args:
        connect: makes the connection.
        mutant: the request.
        cuts: where it is cut into pieces.
        patience: seconds after which one that may have announced more than it sent is ended.
    """
    began = time.perf_counter()
    was_ended = False
    with connect() as connection:
        connection.settimeout(patience if mutant.may_wait else HANG_SECONDS)
        reader = _Reader(connection, has_body=not mutant.octets.startswith(b"HEAD "))
        try:
            for start, stop in pairwise([0, *cuts, len(mutant.octets)]):
                connection.sendall(mutant.octets[start:stop])
        except (BrokenPipeError, ConnectionResetError):
            pass  # the answer is there already
        try:
            found = reader.answer()
        except TimeoutError:
            was_ended = True
            found = _after_the_end(connection, reader) if mutant.may_wait else (_HANG, {}, b"")
        except ConnectionResetError:
            found = (_CLOSED, {}, b"")
    return Answered(*found, time.perf_counter() - began, was_ended)


def _after_the_end(connection: socket.socket, reader: _Reader) -> tuple[int, dict[str, str], bytes]:
    """The answer once the sender has closed its side."""
    try:
        connection.shutdown(socket.SHUT_WR)
        connection.settimeout(HANG_SECONDS)
        return reader.answer()
    except TimeoutError:
        return _HANG, {}, b""
    except OSError:
        return _CLOSED, {}, b""


class _Reader:
    """Reads the first answer on a connection."""

    def __init__(self, connection: socket.socket, *, has_body: bool) -> None:
        self._connection = connection
        self._has_body = has_body
        self._got = b""

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Status, headers and body; the status is 0 where the connection ends before."""
        while b"\r\n\r\n" not in self._got:
            if not self._more():
                return _CLOSED, {}, self._got
        head, _, rest = self._got.partition(b"\r\n\r\n")
        line, *lines = head.decode("latin-1").split("\r\n")
        status = int(line.split(" ")[1])
        if status == 100:  # noqa: PLR2004 - the answer follows
            self._got = rest
            return self.answer()
        headers = {name.lower(): value for name, value in (one.split(": ", 1) for one in lines)}
        start = len(head) + len(b"\r\n\r\n")
        end = start + (int(headers["content-length"]) if self._has_body else 0)
        while len(self._got) < end and self._more():
            pass
        return status, headers, self._got[start:end]

    def _more(self) -> bool:
        piece = self._connection.recv(1 << 16)
        self._got += piece
        return bool(piece)


def verdict_of(answered: Answered) -> Verdict:
    """Status and code; the code is empty where there is none."""
    if answered.status <= 0:
        return answered.status, "hang" if answered.status else "closed"
    is_problem = "problem+" in answered.headers.get("content-type", "") and answered.body
    return answered.status, str(answered.tree["code"]) if is_problem else ""


def differ(mutant: Mutant, one: Answered, other: Answered) -> bool:
    """Whether two answers to the same request differ, and not by what else the server did."""
    if {one.status, other.status} & LOAD:
        return False
    if {one.status, other.status} != {200} or not mutant.function:
        return verdict_of(one) != verdict_of(other)
    if mutant.function != "calls":
        return _lasting(one.tree) != _lasting(other.tree)
    pairs = list(zip(*(map(_lasting, answered.tree["answers"]) for answered in (one, other)), strict=True))
    return any(first != second for first, second in pairs if _BY_LOAD not in {first, second})


def _lasting(tree: dict[str, Any]) -> object:
    """All of an answer, or of a problem, that is the same whenever and however it is asked for."""
    if "code" in tree:
        return _BY_LOAD if tree["status"] in LOAD else (tree["status"], tree["code"])
    return repr({key: value for key, value in tree.items() if key not in _VARIABLE})


def faults_of(mutant: Mutant, answered: Answered) -> list[str]:
    """Faults of an answer, whatever the request was."""
    if answered.status == _HANG:
        return ["hang"]
    if answered.status == _CLOSED:
        return [] if answered.was_ended else ["closed without an answer"]
    if answered.status not in _KNOWN or answered.status == 500:  # noqa: PLR2004 - never expected
        return [f"status {answered.status}: {answered.body[:200]!r}"]
    has_body = not mutant.octets.startswith(b"HEAD ")
    try:
        return _faults_of_body(mutant, answered) if has_body else []
    except (ValueError, KeyError, TypeError) as error:
        return [f"cannot be read: {error!r} {answered.body[:200]!r}"]


def _faults_of_body(mutant: Mutant, answered: Answered) -> list[str]:
    length = int(answered.headers["content-length"])
    faults = [] if length == len(answered.body) else [f"{len(answered.body)} octets of {length}"]
    if answered.status != 200:  # noqa: PLR2004 - a problem
        return faults + _faults_of_document(answered)
    return faults + (_faults_of_answer(mutant, answered) if mutant.function else [])


def _faults_of_document(answered: Answered) -> list[str]:
    if answered.media is None or answered.headers["content-type"] != answered.media.problem:
        return [f"content type {answered.headers.get('content-type')}"]
    document = answered.tree
    faults = _faults_of_problem(document, answered.headers["x-request-id"])
    if document["status"] != answered.status:
        faults.append(f"status {document['status']} in the body of {answered.status}")
    if (answered.status == 429) != ("retry-after" in answered.headers) and answered.status not in LOAD:  # noqa: PLR2004
        faults.append("Retry-After")
    return faults


def _faults_of_problem(document: dict[str, Any], request_id: str) -> list[str]:
    faults = [f"no {name}" for name in _MEMBERS - document.keys()]
    code, status = document["code"], document["status"]
    if TABLE[code].status != status and (status, code) not in _OTHER_STATUSES:
        faults.append(f"{code} is {status}")
    if document["type"] != f"urn:matfn:problem:{code}" or not document["detail"] or not document["title"]:
        faults.append(f"members of {document}")
    if document["request_id"] != request_id:
        faults.append(f"request {document['request_id']} in the answer to {request_id}")
    return faults


def _faults_of_answer(mutant: Mutant, answered: Answered) -> list[str]:
    if answered.media is None or answered.headers["content-type"] != answered.media.value:
        return [f"content type {answered.headers.get('content-type')}"]
    tree = answered.tree  # strictly
    try:
        if mutant.function != "calls":
            decode_answer(answered.body, answered.media)
            return []
        decode_answers(answered.body, answered.media)
    except DecodeError as error:
        return [f"no answer: {error}"]
    problems = [one for one in tree["answers"] if "code" in one]
    request_id = answered.headers["x-request-id"]
    return [fault for problem in problems for fault in _faults_of_problem(problem, request_id)] + [
        f"{problem['code']} in a call: {problem['detail']}"
        for problem in problems
        if problem["status"] == 500  # noqa: PLR2004
    ]
