"""The public names, and that the clients offer the same."""

from __future__ import annotations

import importlib
import inspect
import pickle
import pkgutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import matfn
from matfn import call, catalogue, verification
from matfn.errors import TABLE, Problem, problem_error
from matfn.verify import AsyncVerify, Verify
from matfn.with_info import AsyncWithInfo, WithInfo
from matfn_kernels.contract import functions

ROOT = Path(__file__).parents[2]
CLIENTS = (matfn.Client, matfn.AsyncClient, matfn.LocalClient)
MODULES = [
    name
    for _, name, _ in pkgutil.walk_packages(matfn.__path__, "matfn.")
    if not name.rpartition(".")[2].startswith("_") and not name.startswith("matfn.jax")  # needs JAX: tests/adapters
]
FUNCTIONS = pytest.mark.parametrize("name", sorted(catalogue.FUNCTIONS))


def parameters(function: Any) -> list[tuple[str, Any, Any]]:
    """Names, kinds and defaults, without self."""
    signature = inspect.signature(function)
    return [(p.name, p.kind, p.default) for p in signature.parameters.values() if p.name != "self"]


@pytest.mark.parametrize("name", ["matfn", *MODULES])
def test_all_is_sorted_and_exists(name: str) -> None:
    """Every public module lists its names, sorted as ruff sorts them, and has them."""
    module = importlib.import_module(name)

    names = module.__all__

    ranks = [(0 if name.isupper() else 1 if name[:1].isupper() else 2, name) for name in names]
    assert ranks == sorted(ranks)
    assert all(hasattr(module, name) for name in names)


def test_all_is_exact() -> None:
    """What `matfn` lists is what it imports for its users: every error, and the modules that build calls."""
    imported = {
        name
        for name, value in vars(matfn).items()
        if not name.startswith("_") and (not inspect.ismodule(value) or name in {"call", "gradient", "verification"})
    }
    of_typing = {"TYPE_CHECKING", "Any"}

    later = {"AsyncClient", "Client", "LocalClient", "RequestInfo", "ResponseInfo"}
    assert (imported | later) - of_typing == set(matfn.__all__)
    assert {type(problem_error(Problem.of(code, ""))).__name__ for code in TABLE} <= set(matfn.__all__)


def test_dir_has_public_names_alone() -> None:
    """Completion in a shell shows what users are to use, and all of it is there."""
    assert dir(matfn) == sorted([*matfn.__all__, "__version__"])
    assert all(hasattr(matfn, name) for name in dir(matfn))
    with pytest.raises(AttributeError, match="module 'matfn' has no attribute 'inv_root'"):
        _ = matfn.inv_root  # type: ignore[attr-defined]


@FUNCTIONS
def test_clients_agree(name: str) -> None:
    """Value and information methods of all clients, and the builder, have one signature and one account."""
    methods = [getattr(client, name) for client in CLIENTS]
    methods += [getattr(WithInfo, name), getattr(AsyncWithInfo, name)]
    builder = getattr(call, name)

    assert all(parameters(method) == parameters(builder) for method in methods)
    summary, _, _ = (builder.__doc__ or "").partition("Returns:")
    assert summary
    assert all(
        " ".join((method.__doc__ or "").partition("Returns:")[0].split()) == " ".join(summary.split())
        for method in methods
    )


@FUNCTIONS
def test_signature_follows_the_catalogue(name: str) -> None:
    """Required inputs, then r and s by position; everything else by keyword, with the catalogue's defaults."""
    function = catalogue.FUNCTIONS[name]
    declared = {p.name: p for p in (*function.parameters, *catalogue.OPTIONS)}

    listed = parameters(getattr(call, name))

    positional = [name for name, kind, _ in listed if kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
    assert positional == [i.name for i in function.inputs if not i.optional] + [
        p.name for p in function.parameters if p.positional
    ]
    assert {name for name, _, _ in listed} == {i.name for i in function.inputs} | set(declared)
    assert all(
        default == declared[name].default
        for name, _, default in listed
        if name in declared and default is not inspect.Parameter.empty
    )


@pytest.mark.parametrize("name", sorted(entry.subject for entry in catalogue.ENTRIES.values() if entry.claims))
def test_verifications_agree(name: str) -> None:
    """A function's verification takes its outputs first, then what the function takes to compute them, everywhere."""
    claims = list(catalogue.FUNCTIONS[name].outputs)
    asking = {further.parameter for further in catalogue.FUNCTIONS[name].on_request}

    names = [parameter for parameter, _, _ in parameters(getattr(verification, name))]

    taken = [parameter for parameter, _, _ in parameters(getattr(call, name))]
    assert names == claims + [parameter for parameter in taken if parameter not in asking]
    assert parameters(getattr(Verify, name)) == parameters(getattr(AsyncVerify, name))
    assert parameters(getattr(Verify, name)) == parameters(getattr(verification, name))


@pytest.mark.parametrize("name", ["ask", "map", "functions", "status", "close", "with_info", "verify"])
def test_clients_share_the_rest(name: str) -> None:
    """What is no matrix function is alike too, but for `await`."""
    rest = [inspect.getattr_static(client, name) for client in CLIENTS]

    signatures = [parameters(one.fget if isinstance(one, property) else one) for one in rest]

    assert signatures[0] == signatures[1] == signatures[2]


@pytest.mark.parametrize("name", ["submit", "as_completed"])
def test_clients_with_threads_share_them(name: str) -> None:
    """Futures are alike with and without a server."""
    assert parameters(getattr(matfn.Client, name)) == parameters(getattr(matfn.LocalClient, name))


@pytest.mark.parametrize("info", [WithInfo, AsyncWithInfo])
def test_information_comes_for_many_too(info: type) -> None:
    """with_info.map takes what map takes."""
    assert parameters(info.map) == parameters(matfn.Client.map)  # type: ignore[attr-defined]


def test_version_is_the_distributions() -> None:
    """The package names the version that is installed."""
    assert matfn.__version__ == version("matfn")


def test_catalogue_is_the_kernels() -> None:
    """The client's copy of the catalogue is the kernels' own table."""
    assert repr(catalogue.FUNCTIONS) == repr(functions.FUNCTIONS)
    assert repr(catalogue.OPTIONS) == repr(functions.OPTIONS)


def test_generated_files_are_fresh() -> None:
    """The generator would write nothing new."""
    command = [sys.executable, "scripts/generate_methods.py", "--check"]

    assert subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True).stdout == ""


def test_import_is_light() -> None:
    """`import matfn` needs neither torch nor the service nor what draws tables, nor what is slow to import."""
    heavy = (
        "{'torch', 'jax', 'fastapi', 'scipy', 'rich', 'typer', 'pydantic', 'matfn_kernels', 'matfn_service', 'asyncio',"
        " 'concurrent.futures', 'email', 'importlib.metadata', 'logging', 'ssl', 'subprocess', 'urllib.parse'}"
    )
    code = f"import sys, matfn; print(sorted({heavy} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-Ic", code], check=True, capture_output=True, text=True).stdout == "[]\n"


def test_errors_survive_pickling() -> None:
    """An error crosses process boundaries with its problem."""
    error = problem_error(Problem.of("not_positive", "matrix 3", index=3))

    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert (type(copy), copy.problem) == (matfn.NotPositive, error.problem)
    assert str(copy).startswith("not_positive: matrix 3 (")


def test_refused_arguments_are_value_errors() -> None:
    """Errors of status 422 are ValueErrors, those of matrices without an answer LinAlgErrors, others neither."""
    errors = [problem_error(Problem.of(code, "")) for code in TABLE]

    assert {error.code for error in errors if isinstance(error, ValueError)} == {
        error.code for error in errors if error.status == 422
    }
    assert {error.code for error in errors if isinstance(error, np.linalg.LinAlgError)} == {
        "not_positive",
        "singular",
        "sign_undefined",
        "not_stabilisable",
        "out_of_range",
        "not_converged",
    }


def test_codes_statuses_are_the_contracts() -> None:
    """Each code has the status of the HTTP interface."""
    statuses = {code: row.status for code, row in TABLE.items()}

    assert {code for code, status in statuses.items() if status == 422} == {
        "invalid_shape",
        "invalid_parameter",
        "unsupported_dtype",
        "not_finite",
        "not_symmetric",
        "not_positive",
        "singular",
        "sign_undefined",
        "not_stabilisable",
        "out_of_range",
        "not_converged",
    }
    assert (statuses["busy"], statuses["draining"], statuses["deadline_exceeded"]) == (429, 503, 504)
