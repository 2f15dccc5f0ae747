"""The page at /docs: routes, functions, options, limits and error codes, in one file without external references."""

from __future__ import annotations

from dataclasses import asdict
from html import escape
from typing import TYPE_CHECKING, Final

from matfn.errors import TABLE
from matfn_kernels import FUNCTIONS, OPTIONS
from matfn_service.reports import dtypes_of, limits_report
from matfn_service.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Iterable

    from matfn_kernels import Function, Input, OnRequest, Parameter
    from matfn_service.settings import Settings

__all__ = ["MANUAL_POLICY", "manual"]

MANUAL_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
_STYLE: Final = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; width: 100%; margin: .5rem 0 1.5rem; }
th, td { text-align: left; vertical-align: top; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #8884; }
code, pre { font-family: ui-monospace, monospace; font-size: .9em; }
pre { overflow-x: auto; padding: .75rem; border: 1px solid #8884; }
h3 { margin-bottom: 0; }
"""
_ROUTES: Final = (
    ("POST /v1/{function}", "one call, in msgpack or JSON; the answer comes in the same, or as Accept says"),
    (
        "POST /v1/verify/{function}",
        "the inputs of a function and its claimed outputs x, y, from anywhere; the answer has certificates only",
    ),
    (
        "POST /v1/vjp/{function}",
        "the inputs of a function and cotangents of its outputs x, y; the answer has the outputs and the gradients",
    ),
    ("POST /v1/calls", 'many calls, {"calls": [call, ...]}, each with its "function"; {"answers": [...]} in order'),
    (
        "POST /v1/plan/{function}",
        "a call that is not computed: which method would answer it, at what price, and the prices of the others",
    ),
    (
        "POST /v2/models/{function}/infer",
        "one call in the Open Inference Protocol, JSON or binary; /v2, /v2/health and /v2/models/{function} describe",
    ),
    ("GET /v1/functions", "this page's tables as data"),
    ("GET /v1/status", "device, profile, queue, batches, version"),
    (
        "GET /v1/batches?after=N",
        "the last batches after number N, those under way among them, and what waits by its key",
    ),
    ("GET /metrics", "counters and states for Prometheus"),
    ("GET /healthz", "200 as long as the process lives"),
    ("GET /readyz", "200 while calls are taken; 503 while warming up or draining"),
    ("GET /openapi.json", "the schema of every route"),
    ("GET /docs/", "the documentation site, where it was built; it needs no key"),
    ("GET /", "a page to try every function on; it needs no key and asks for one where its calls do"),
)
_EXAMPLE: Final = """curl http://127.0.0.1:8000/v1/inv_root -H 'Content-Type: application/json' \\
  -d '{"inputs": {"a": [[2.0, 0.0], [0.0, 4.0]]}, "params": {"r": 2}}'"""


def manual(settings: Settings) -> str:
    """The whole page, with the limits that are in force."""
    sections = [
        f"<h1>matfn {escape(VERSION)}</h1>",
        '<p>Matrix functions as a service. The schema is at <a href="/openapi.json">/openapi.json</a>.</p>',
        '<p>The <a href="/docs/">documentation</a> is at /docs/, where it was built.</p>',
        f"<pre>{escape(_EXAMPLE)}</pre>",
        "<h2>Routes</h2>",
        _table(("route", "what it does"), _ROUTES),
        "<h2>Functions</h2>",
        *(_function(function) for function in FUNCTIONS.values()),
        "<h2>Options of every call</h2>",
        _table(_PARAMETER_HEAD, map(_parameter, OPTIONS)),
        "<h2>Limits</h2>",
        _table(("limit", "value"), [(name, str(bound)) for name, bound in asdict(limits_report(settings)).items()]),
        "<h2>Error codes</h2>",
        _table(("code", "status", "meaning", "what to try"), _codes()),
    ]
    return _page(sections)


def _page(sections: Iterable[str]) -> str:
    head = f'<meta charset="utf-8"><title>matfn</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(sections)}</body></html>'


_INPUT_HEAD: Final = ("input", "shape", "needed", "meaning")
_PARAMETER_HEAD: Final = ("parameter", "type", "default", "meaning")


def _further(output: OnRequest) -> str:
    return f"{output.name} ({output.parameter}=true)"


def _function(function: Function) -> str:
    return "".join(
        [
            f'<h3 id="{escape(function.name)}">{escape(function.name)}</h3>',
            f"<p>{escape(function.summary)} <code>{escape(function.formula)}</code><br>",
            f"Outputs: {escape(', '.join((*function.outputs, *map(_further, function.on_request))))}. ",
            f"Dtypes: {escape(', '.join(dtypes_of(function)))}.<br>",
            f"Codes: {escape(', '.join(function.errors))}.</p>",
            _table(_INPUT_HEAD, map(_input, function.inputs)),
            _table(_PARAMETER_HEAD, map(_parameter, function.parameters)) if function.parameters else "",
        ]
    )


def _input(entry: Input) -> tuple[str, ...]:
    return entry.name, f"(*, {', '.join(entry.shape)})", "no" if entry.optional else "yes", entry.summary


def _parameter(entry: Parameter) -> tuple[str, ...]:
    bounds = [f"{word} {bound:g}" for word, bound in (("≥", entry.minimum), ("≤", entry.maximum)) if bound is not None]
    kind = " ".join([entry.kind, *bounds, *(f'"{choice}"' for choice in entry.choices)])
    kind += " or an array of them" if entry.varies else ""
    return entry.name, kind, "required" if entry.required else str(entry.default), entry.summary


def _codes() -> list[tuple[str, ...]]:
    return [(row.code, str(row.status), row.title, row.hint) for row in TABLE.values()]


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    lines = ("".join(_cell(number, text) for number, text in enumerate(row)) for row in rows)
    return f"<table><tr>{titles}</tr>{''.join(f'<tr>{line}</tr>' for line in lines)}</table>"


def _cell(number: int, text: str) -> str:
    return f"<td>{escape(text)}</td>" if number else f"<td><code>{escape(text)}</code></td>"
