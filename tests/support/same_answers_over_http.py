"""Whether a server's answers depend on other calls: stacked, in one request with others, beside other connections."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final

import matfn
from bit_cases import KINDS, Case, cases
from matfn.answers import outputs_of
from matfn.invocation import Invocation
from same_answers import Difference, Row, bits, windows, written

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Comparison", "alone", "compare", "served"]

_OPTIONS: Final = ("tol", "precision")
_CONNECTIONS: Final = 6
_SHARE: Final = 3
"""Each connection asks for one in so many of all calls."""
_VARIATIONS: Final = 3
"""Of a function's parameters, in the short form."""
_CALLS: Final = 24
"""In one request."""


@dataclass(frozen=True)
class _Asked:
    """One call: a case with matrices of some kinds."""

    case: Case
    kinds: tuple[str, ...]


@dataclass
class Comparison:
    """What was found of one case.

    Attributes:
        case: whose calls they were.
        method: that the server chose.
        count: of answers compared.
        found: those that differ.
    """

    case: Case
    method: str
    count: int = 0
    found: list[Difference] = field(default_factory=list)


def served(*, brief: bool) -> list[Case]:
    """The cases for a server, fewer in the short form."""
    if not brief:
        return list(cases())
    chosen: dict[tuple[str, str], list[Case]] = {}
    for case in cases():
        if case.size in {9, (9, 5)} and case.dtype in {"float32", "float64"}:
            chosen.setdefault((case.function, case.dtype), []).append(case)
    return [case for group in chosen.values() for case in group[:_VARIATIONS]]


def alone(client: matfn.Client, chosen: Iterable[Case], kinds: Sequence[str]) -> dict[tuple[Case, str], Row]:
    """The answer for each matrix, in a request of its own that waits for the one before."""
    asked = [_Asked(case, (kind,)) for case in chosen for kind in kinds]
    found: dict[tuple[Case, str], Row] = {}
    for one in asked:
        rows = _rows(_answer(client, one))
        if rows:  # else the server refuses such calls
            found[one.case, one.kinds[0]] = rows[0]
    return found


def compare(client: matfn.Client, expected: Mapping[tuple[Case, str], Row], rounds: int = 1) -> list[Comparison]:
    """Compares the answers in shared batches with those expected."""
    judge = _Judge(expected)
    kinds: dict[Case, list[str]] = {}
    for case, kind in expected:
        kinds.setdefault(case, []).append(kind)
    singles = [_Asked(case, (kind,)) for case, given in kinds.items() for kind in given]
    stacked = [_Asked(case, w) for case, given in kinds.items() for size in (2, 3, 7) for w in windows(given, size, 1)]
    judge.all("stacked", ((asked, _answer(client, asked)) for asked in stacked))
    for number in range(rounds):
        judge.all("in one request", _in_requests(client, _shuffled([*singles, *stacked], number)))
        orders = [
            _shuffled([*singles, *stacked], 100 * number + caller)[caller % _SHARE :: _SHARE]
            for caller in range(_CONNECTIONS)
        ]
        with ThreadPoolExecutor(_CONNECTIONS) as pool:
            for answers in pool.map(partial(_beside, client), orders):
                judge.all("beside other connections", answers)
    return list(judge.comparisons.values())


class _Judge:
    """Counts answers and keeps those that differ."""

    def __init__(self, expected: Mapping[tuple[Case, str], Row]) -> None:
        self._expected = expected
        self.comparisons = {case: Comparison(case, _method(row)) for (case, _), row in expected.items()}

    def all(self, check: str, answers: Iterable[tuple[_Asked, object]]) -> None:
        """Judges answers that were asked for in one way."""
        for asked, answer in answers:
            self._one(check, asked, answer)

    def _one(self, check: str, asked: _Asked, answer: object) -> None:
        comparison = self.comparisons[asked.case]
        rows = _rows(answer)
        if len(rows) != len(asked.kinds):
            comparison.found.append(Difference(f"{check}: {answer!r}", "", (), in_output=True))
            return
        for place, (kind, row) in enumerate(zip(asked.kinds, rows, strict=True)):
            comparison.count += 1
            changed = self._expected[asked.case, kind].differing(row)
            if changed:
                in_output = not row.outputs.keys().isdisjoint(changed)
                comparison.found.append(Difference(check, kind, changed, in_output, asked.kinds, place))


def _shuffled(asked: Iterable[_Asked], seed: int) -> list[_Asked]:
    order = list(asked)
    random.Random(seed).shuffle(order)
    return order


def _in_requests(client: matfn.Client, asked: Sequence[_Asked]) -> Iterator[tuple[_Asked, object]]:
    """Answers to many calls a request."""
    for start in range(0, len(asked), _CALLS):
        part = asked[start : start + _CALLS]
        answers = client.with_info.map([_call(one.case, one.kinds) for one in part], on_error="return")
        yield from zip(part, answers, strict=True)


def _beside(client: matfn.Client, asked: Sequence[_Asked]) -> list[tuple[_Asked, object]]:
    """Answers to calls one by one and in requests of many, in turn."""
    middle = len(asked) // 2
    one_by_one = [(one, _answer(client, one)) for one in asked[:middle]]
    return one_by_one + list(_in_requests(client, asked[middle:]))


def _answer(client: matfn.Client, asked: _Asked) -> object:
    try:
        return client.ask(_call(asked.case, asked.kinds))
    except matfn.MatfnError as error:
        return error


@lru_cache(maxsize=1 << 14)
def _call(case: Case, kinds: tuple[str, ...]) -> Invocation[Any]:
    """What the client takes."""
    options = {name: value for name, value in case.keywords.items() if name in _OPTIONS}
    params = {name: value for name, value in case.keywords.items() if name not in _OPTIONS}
    items = [KINDS.index(kind) for kind in kinds]
    inputs = {name: tensor[items] for name, tensor in _inputs(case).items()}
    return Invocation(case.function, inputs, params, {**options, "on_failure": "nan"})


@lru_cache(maxsize=256)
def _inputs(case: Case) -> dict[str, Any]:
    return case.inputs()


def _rows(answer: object) -> list[Row]:
    if not isinstance(answer, matfn.Answer):
        return []
    values = outputs_of(answer.value)
    return [
        Row({name: bits(value[i]) for name, value in zip("xyz", values, strict=False)}, written(certificate))
        for i, certificate in enumerate(answer.certificates)
    ]


def _method(row: Row) -> str:
    return f"{row.certificate['method']}-{row.certificate['precision']}"
