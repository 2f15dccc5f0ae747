"""`matfn run`, `verify` and `vjp`: one subcommand per function, its arguments and options made from the catalogue.

matfn run inv_root A.npy --r 4 -o X.npy
matfn run tri_solve T.npy B.npy          the inputs in order, or by name: --b B.npy
matfn run power A.npy --p 0.5,1,2        a number for each matrix; or a file, --p p.npy
matfn run msign data.npz:m -o - --json   arrays of archives, .csv and .mtx; - is stdin or stdout
matfn verify inv_root X.npy A.npy --r 4  the claimed outputs first
matfn vjp inv_root Y.npy A.npy --r 4     the cotangents of the outputs first
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from inspect import Parameter as Argument
from inspect import Signature
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, TypeAlias

import typer
from rich.markup import escape

from matfn.array_files import STANDARD, is_text, read_array, refuse
from matfn.catalogue import Function, Input, Parameter, options_of
from matfn.complaints import EXIT_CODES, Form, told_as
from matfn.invocation import Invocation
from matfn.targets import targets_of
from matfn.vectors import SIDES, SYSTEMS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

__all__ = ["Job", "Run", "Wanted", "add_functions", "results_of"]

Job = Invocation[Any]


@dataclass(frozen=True, slots=True)
class Wanted:
    """Requests of a command line beside its call.

    Attributes:
        targets: a file for each output that has one.
        urls: the servers; None for MATFN_URL's.
        local: whether to compute in this process.
        as_json: whether to print JSON in place of tables.
    """

    targets: Mapping[str, Path]
    urls: list[str] | None
    local: bool
    as_json: bool


Run: TypeAlias = "Callable[[Job, Wanted], None]"

_MATRIX: Final = 2  # dimensions of what a text file holds
_NOTHING: Final = frozenset({"none", "null"})
_FILES: Final = "files"
_OUTPUT: Final = "output"
_URL: Final = "url"
_LOCAL: Final = "local"
_JSON: Final = "as_json"
_JSON_HELP: Final = "print JSON in place of tables and of failures, on stderr where -o - has stdout"
_FORMATS: Final = ".npy, .npz:NAME, .csv or .mtx files, or - for stdin"


def add_functions(app: typer.Typer, entries: Iterable[Function], run: Run) -> None:
    """Adds one command per function; each hands its call, and what else is wanted, to `run`."""
    for function in entries:
        app.command(function.subject, help=_help(function))(_command(function, run))


def _help(function: Function) -> str:
    inputs = ", ".join(f"{item.name} ({', '.join(('*', *item.shape))})" for item in function.inputs)
    return escape(f"{function.summary}\n\nInputs, as {_FORMATS}: {inputs}.\n\n{EXIT_CODES}")


def _where(function: Function) -> str:
    outputs = function.gradients or (*function.outputs, *(further.name for further in function.on_request))
    if len(outputs) == 1:
        return (
            "the .npy, .npz, .csv or .mtx file for the value, or - for stdout as .npy; without it up to 64 numbers are "
            "printed, and more are saved in a new file"
        )
    further = ", ".join(f"P.{name}.npy" for name in outputs[1:])
    return (
        f"the .npy file for {outputs[0]}; P.npy alone puts the others into {further}; P.npz holds all; "
        "or one -o for each; without it up to 64 numbers of each are printed, and more are saved in new files"
    )


def _command(function: Function, run: Run) -> Callable[..., None]:
    """A command whose signature typer reads; the catalogue is that signature's only source."""

    def command(**given: Any) -> None:
        if given[_LOCAL] and given[_URL]:
            raise typer.BadParameter("--local computes in this process, --url asks a server: give one of them")
        files = given.get(_OUTPUT) or []
        with told_as(_form(files, as_json=given[_JSON])):
            job = _job(function, given)
            targets = targets_of(results_of(function, job), files)
            _require_matrices(function, job, targets)
            run(job, Wanted(targets, given[_URL], given[_LOCAL], given[_JSON]))

    arguments = [
        _argument(_FILES, list[Path] | None, typer.Argument(help="the inputs in order", show_default=False), None),
        *(_argument(item.name, Path | None, _option(item.name, item.summary), None) for item in function.inputs),
        *(_parameter(parameter) for parameter in (*function.parameters, *options_of(function))),
        *(_outputs(function) if function.outputs else ()),
        _argument(
            _URL,
            list[str] | None,
            typer.Option("--url", help="the server, or one of several; MATFN_URL by default"),
            None,
        ),
        _argument(_LOCAL, bool, typer.Option("--local", help="compute in this process"), default=False),
        _argument(_JSON, bool, typer.Option("--json", help=_JSON_HELP), default=False),
    ]
    command.__signature__ = Signature(arguments)  # type: ignore[attr-defined]
    command.__annotations__ = {argument.name: argument.annotation for argument in arguments}
    return command


def _form(files: Container[Path], *, as_json: bool) -> Form:
    """The form of failures: where the answer's JSON would be, which leaves stdout to an array."""
    if not as_json:
        return Form.WORDS
    return Form.JSON_BESIDE if STANDARD in files else Form.JSON


def results_of(function: Function, job: Job) -> tuple[str, ...]:
    """The names of what a command has to show: the outputs, or the gradients of the inputs that are given."""
    gradients = tuple(name for name in function.gradients if name in job.inputs)
    return gradients or function.outputs_of(job.inputs, job.params)


def _outputs(function: Function) -> tuple[Argument]:
    """The option that names files for the outputs."""
    option = typer.Option("-o", "--output", help=_where(function))
    return (_argument(_OUTPUT, list[Path] | None, option, None),)


def _argument(name: str, kind: Any, declaration: Any, default: Any = Argument.empty) -> Argument:
    return Argument(name, Argument.KEYWORD_ONLY, default=default, annotation=Annotated[kind, declaration])


def _option(name: str, summary: str) -> Any:
    return typer.Option(f"--{name.replace('_', '-')}", help=escape(summary), show_default=False)


def _parameter(parameter: Parameter) -> Argument:
    """Booleans and integers are typer's; what may be None, or a word, is read from text here."""
    flag = f"--{parameter.name.replace('_', '-')}"
    default = Argument.empty if parameter.required else parameter.default
    summary = escape(parameter.summary)
    if parameter.kind == "boolean":
        return _argument(parameter.name, bool, typer.Option(f"{flag}/--no-{flag[2:]}", help=summary), default)
    if parameter.kind == "integer" and not parameter.nullable:
        return _argument(parameter.name, int, typer.Option(flag, help=summary), default)
    words = "|".join((*parameter.choices, *(("none",) if parameter.nullable else ())))
    numbers = "NUMBER|NUMBER,...|FILE" if parameter.varies else "NUMBER"
    kinds = "|".join(filter(None, (numbers if parameter.varies else "", words.upper())))
    option = typer.Option(flag, help=summary, metavar=kinds if parameter.choices else numbers)
    return _argument(parameter.name, str, option, _text(default))


def _text(default: Any) -> Any:
    if default is Argument.empty:
        return default
    return "none" if default is None else str(default)


def _job(function: Function, given: Mapping[str, Any]) -> Job:
    params = {parameter.name: _value(parameter, given[parameter.name]) for parameter in function.parameters}
    options = {option.name: _value(option, given[option.name]) for option in options_of(function)}
    return Invocation(function.name, _inputs(function, given), params, options)


def _inputs(function: Function, given: Mapping[str, Any]) -> dict[str, Any]:
    """Named files first; the others fill the remaining inputs in order."""
    paths = {item.name: given[item.name] for item in function.inputs if given[item.name] is not None}
    open_names = [item.name for item in function.inputs if item.name not in paths]
    files = given[_FILES] or []
    if len(files) > len(open_names):
        names = ", ".join(item.name for item in function.inputs)
        raise typer.BadParameter(f"{function.name} takes {len(function.inputs)} inputs ({names})")
    paths |= zip(open_names, files, strict=False)
    missing = [item.name for item in function.inputs if not item.optional and item.name not in paths]
    if missing:
        raise typer.BadParameter(f"{function.name} also needs the input {missing[0]}")
    if list(paths.values()).count(STANDARD) > 1:
        raise typer.BadParameter("stdin holds one input; name files for the others")
    return _with_vectors(function, {name: read_array(path) for name, path in paths.items()}, paths)


def _with_vectors(function: Function, arrays: Mapping[str, Any], paths: Mapping[str, Path]) -> dict[str, Any]:
    """The inputs, those of text files without the dimension that such a file has too many."""
    entries = {item.name: item for item in function.inputs}
    order = function.sizes({name: array.shape for name, array in arrays.items() if name not in SIDES}).get("n")
    return {
        name: _as_vector(function, entries[name], array, order) if is_text(paths[name]) else array
        for name, array in arrays.items()
    }


def _as_vector(function: Function, entry: Input, array: Any, order: int | None) -> Any:
    """A number, a vector from one row or column, or one column from a row that fits a system in no other way."""
    if not entry.shape and array.size == 1:
        return array.reshape(())
    if len(entry.shape) == 1 and 1 in array.shape:
        return array.reshape(-1)
    is_row = function.subject in SYSTEMS and entry.name in SIDES and array.shape == (1, order)
    return array.T if is_row else array


def _require_matrices(function: Function, job: Job, targets: Mapping[str, Path]) -> None:
    """Ends the command where stacks would go to files that hold one matrix each."""
    ranks = {item.name: len(item.shape) for item in function.inputs}
    is_stack = any(array.ndim > ranks[name] for name, array in job.arrays.items())
    dimensions = dict(zip(function.outputs, function.output_shapes, strict=True))
    dimensions |= {further.name: further.shape for further in function.on_request}
    for name, path in targets.items():
        if is_text(path) and (is_stack or len(dimensions[name]) > _MATRIX):
            refuse("output", f"{path} holds one matrix, and {name} is a stack of them: name a .npy file")


def _value(parameter: Parameter, given: Any) -> Any:
    """The value that a text stands for; what its domain excludes is left to the service to refuse."""
    if not isinstance(given, str) or given in parameter.choices:
        return given
    if given.lower() in _NOTHING:
        return None
    if parameter.varies and (numbers := _numbers(parameter, given)) is not None:
        return numbers
    try:
        return json.loads(given) if parameter.kind in {"coefficients", "offsets", "integer"} else float(given)
    except ValueError:
        flag = f"--{parameter.name.replace('_', '-')}"
        raise typer.BadParameter(f"{flag} {given}: it must be {' or '.join(_words(parameter))}") from None


def _numbers(parameter: Parameter, given: str) -> Any:
    """The array in a file, or the numbers between commas; None for a single number.

    Raises:
        BadParameter: they are no numbers.
    """
    if given.endswith(".npy") or ".npz:" in given:
        return read_array(Path(given))
    if "," not in given:
        return None
    try:
        return [float(number) for number in given.split(",")]
    except ValueError:
        flag = f"--{parameter.name.replace('_', '-')}"
        raise typer.BadParameter(f"{flag} {given}: it must be numbers with commas between them") from None


def _words(parameter: Parameter) -> list[str]:
    """The values that a parameter takes on the command line."""
    forms = {
        "coefficients": ["rows like [[a, b, c], ...]"],
        "offsets": ["a list like [0, 3, 8]"],
        "integer": ["an integer"],
        "string": [],
    }
    return [
        *forms.get(parameter.kind, ["a number"]),
        *parameter.choices,
        *(["numbers with commas between them", "a .npy or .npz:NAME file"] if parameter.varies else []),
        *(["none"] if parameter.nullable and parameter.default not in parameter.choices else []),
    ]
