"""The tables that the command line prints, with rich.

Every cell is a Text: rich would take brackets in a plain string, such as an interval's, for markup.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Table
from rich.text import Text

from matfn.answers import outputs_of
from matfn.wire import Certificate, Residual

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from matfn.answers import Answer
    from matfn.bench import Measured, Workload
    from matfn.check import Verdict
    from matfn.errors import ErrorCode

__all__ = [
    "bench_table",
    "certificates_table",
    "code_table",
    "functions_table",
    "is_small",
    "status_table",
    "values_text",
    "verdicts_table",
]

_SHOWN: Final = 20
_NUMBERS: Final = 64  # a matrix of order 8
_WIDTH: Final = 60  # of a title, which rich folds to the width of its table
_LINE: Final = 240  # eight complex numbers
_COMPACT: Final = (
    "outcome",
    "error_estimate",
    "error_bound",
    "condition",
    "method",
    "precision",
    "steps",
    "rank",
    "hint",
)


def certificates_table(function: str, answer: Answer[Any]) -> Table:
    """One matrix's certificate field by field, or one row per matrix, up to a screenful."""
    shapes = [value.shape for value in outputs_of(answer.value)]
    timing = answer.timing
    table = Table(
        title=Text(f"{function}: {', '.join(map(_shape, shapes)) or 'claimed answer'} on {answer.device}"),
        caption=Text(
            f"{timing.device_ms:.3g} ms computed, {timing.queue_ms:.3g} ms queued, batch of {timing.batch_size}"
        ),
        box=SIMPLE_HEAD,
        min_width=_WIDTH,
    )
    if len(answer.certificates) == 1:
        _add_fields(table, answer.certificates[0])
    else:
        _add_rows(table, answer.certificates)
    return table


def _add_fields(table: Table, certificate: Certificate) -> None:
    table.add_column("certificate", no_wrap=True)
    table.add_column("")
    for name in Certificate.__slots__:
        value = getattr(certificate, name)
        if value is not None:
            _add_row(table, name.replace("_", " "), _cell(value))


def _add_rows(table: Table, certificates: Sequence[Certificate]) -> None:
    names = [name for name in _COMPACT if any(getattr(one, name) not in {None, 0} for one in certificates)]
    table.add_column("")
    for name in names:
        table.add_column(name.replace("_", " "), overflow="fold")
    for index, certificate in enumerate(certificates[:_SHOWN]):
        _add_row(table, str(index), *(_cell(getattr(certificate, name)) for name in names))
    if len(certificates) > _SHOWN:
        _add_row(table, "...", f"and {len(certificates) - _SHOWN} more")


def _cell(value: object) -> str:
    match value:
        case None:
            return ""
        case Residual():
            return f"{_number(value.value)} ({value.name})"
        case float():
            return _number(value)
        case _:
            return str(value)


def is_small(value: NDArray[Any]) -> bool:
    """Whether an output is better printed than saved."""
    return value.size <= _NUMBERS


def values_text(outputs: Mapping[str, NDArray[Any]]) -> Text:
    """Outputs number by number, as numpy prints them."""
    return Text("\n".join(_value(name, value) for name, value in outputs.items()))


def _value(name: str, value: NDArray[Any]) -> str:
    if value.ndim == 0:
        return f"{name} = {value[()]}"
    if value.size == 0:
        return f"{name} is {_shape(value.shape)} {value.dtype}, without numbers"
    return f"{name} =\n{np.array2string(value, max_line_width=_LINE, threshold=value.size)}"


def verdicts_table(verdicts: Iterable[Verdict]) -> Table:
    """One row per case of the self-test."""
    columns = ("function", "dtype", "shape", "method", "outcome", "error", "bound", "ms", "")
    table = Table(*columns, title="matfn check", box=SIMPLE_HEAD, min_width=_WIDTH)
    for verdict in verdicts:
        case, certificate = verdict.case, verdict.certificate
        _add_row(
            table,
            case.invocation.function,
            case.dtype,
            _shape(case.invocation.first.shape),
            certificate.method if certificate else verdict.problem,
            str(certificate.outcome) if certificate else "",
            _number(verdict.error),
            _number(case.bound),
            f"{verdict.milliseconds:.2f}",
            Text("right", "green") if verdict.right else Text("WRONG", "bold red"),
        )
    return table


def functions_table(document: Mapping[str, Any]) -> Table:
    """One row per function of GET /v1/functions."""
    table = Table("function", "inputs", "parameters", "methods", "summary", title="functions", show_lines=True)
    for function in document["functions"]:
        inputs = (f"{item['name']} ({', '.join(['*', *item['shape']])})" for item in function["inputs"])
        _add_row(
            table,
            function["name"],
            "\n".join(inputs),
            "\n".join(_declared(parameter) for parameter in function["parameters"]),
            "\n".join(function["methods"]),
            function["summary"],
        )
    return table


def _declared(parameter: Mapping[str, Any]) -> str:
    return parameter["name"] if parameter["required"] else f"{parameter['name']}={parameter['default']}"


def status_table(document: Mapping[str, Any]) -> Table:
    """One row per fact of GET /v1/status, without the tables of the calibration, which --json has."""
    if isinstance(document.get("calibration"), dict):
        facts = {name: fact for name, fact in document["calibration"].items() if not isinstance(fact, list)}
        document = {**document, "calibration": facts}
    table = Table(title="status", show_header=False, box=SIMPLE_HEAD, min_width=_WIDTH)
    for name, value in _flat(document):
        _add_row(table, name.replace("_", " "), value)
    return table


def _flat(document: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in document.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name} ")
        else:
            yield prefix + name, f"{value:.4g}" if isinstance(value, float) else str(value)


def bench_table(workload: Workload, measured: Measured) -> Table:
    """Latency of one workload and its parts."""
    table = Table(title=Text(f"matfn bench {workload.name}"), box=SIMPLE_HEAD, min_width=_WIDTH)
    table.add_column("")
    table.add_column("", justify="right")
    rows = [
        ("calls measured", f"{measured.calls}{'' if measured.is_stable else ', never stable: the machine is busy'}"),
        ("matrices a second", f"{workload.matrices / measured.seconds:.4g}"),
        ("median", f"{measured.seconds * 1e3:.3g} ms"),
        ("99 %", f"{measured.slow_seconds * 1e3:.3g} ms"),
        *((f"  {part}", f"{seconds * 1e3:.3g} ms") for part, seconds in measured.parts.items()),
        ("this machine's LAPACK", f"{measured.local_seconds * 1e3:.3g} ms"),
    ]
    for row in rows:
        _add_row(table, *row)
    return table


def code_table(row: ErrorCode) -> Table:
    """One error code, explained."""
    table = Table(title=Text(row.code), show_header=False, min_width=_WIDTH)
    _add_row(table, "HTTP status", str(row.status))
    _add_row(table, "meaning", row.title)
    _add_row(table, "try", row.hint)
    _add_row(table, "sent again by the client", "yes" if row.retryable else "no")
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    table.add_row(*(cell if isinstance(cell, Text) else Text(cell) for cell in cells))


def _shape(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "a number"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2e}" if value else "0"
