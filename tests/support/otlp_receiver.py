"""A receiver of OTLP over HTTP that writes a line of JSON for each request, as the file exporter of a collector does.

python tests/support/otlp_receiver.py FOLDER [PORT]     traces.json and metrics.json in that folder, until it is ended
"""

from __future__ import annotations

import gzip
import json
import sys
import threading
from base64 import b64decode
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Final

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["exported", "plain", "receiver"]

_MESSAGES: Final[dict[str, Any]] = {"/v1/traces": ExportTraceServiceRequest, "/v1/metrics": ExportMetricsServiceRequest}
_IDS: Final = frozenset({"traceId", "spanId", "parentSpanId"})


class _Handler(BaseHTTPRequestHandler):
    """Writes each request's message into the file of its signal."""

    protocol_version = "HTTP/1.1"
    folder: ClassVar[Path]
    lock: ClassVar[threading.Lock]

    def do_POST(self) -> None:
        """Takes one export; answers 400 to what is no OTLP."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        try:
            message = _MESSAGES[self.path].FromString(body)
        except Exception:  # noqa: BLE001 - whatever a body is, the sender is told
            self._answer(400)
            return
        line = json.dumps(_with_hexadecimal_ids(MessageToDict(message)))
        with self.lock, (self.folder / f"{self.path.rpartition('/')[2]}.json").open("a") as file:
            file.write(f"{line}\n")
        self._answer(200)

    def _answer(self, status: int) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/x-protobuf")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Says nothing."""


def _with_hexadecimal_ids(value: Any) -> Any:
    """The message as OTLP writes it in JSON: ids in hexadecimal, where protobuf's own JSON has base64."""
    if isinstance(value, list):
        return [_with_hexadecimal_ids(one) for one in value]
    if not isinstance(value, dict):
        return value
    return {name: b64decode(one).hex() if name in _IDS else _with_hexadecimal_ids(one) for name, one in value.items()}


@contextmanager
def receiver(folder: Path, port: int = 0) -> Iterator[str]:
    """The URL of a receiver that writes into a folder."""
    handler = type("Handler", (_Handler,), {"folder": folder, "lock": threading.Lock()})
    server = ThreadingHTTPServer(("127.0.0.1", port), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def exported(folder: Path, signal: str) -> list[dict[str, Any]]:
    """The spans (`traces`) or metrics (`metrics`) in the file of a receiver or a collector, with their resources."""
    group, scope, entries = {
        "traces": ("resourceSpans", "scopeSpans", "spans"),
        "metrics": ("resourceMetrics", "scopeMetrics", "metrics"),
    }[signal]
    lines = [json.loads(line) for line in (folder / f"{signal}.json").read_text().splitlines()]
    return [
        {**entry, "resource": plain(resource["resource"].get("attributes", []))}
        for line in lines
        for resource in line[group]
        for one in resource[scope]
        for entry in one[entries]
    ]


def plain(attributes: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Attributes by name; numbers of 64 bits, which JSON has as strings, as numbers."""
    return {one["key"]: _value(one["value"]) for one in attributes}


def _value(value: Mapping[str, Any]) -> Any:
    ((kind, content),) = value.items()
    if kind == "arrayValue":
        return [_value(one) for one in content.get("values", [])]
    return int(content) if kind == "intValue" else content


if __name__ == "__main__":
    with receiver(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0) as url:
        sys.stdout.write(f"{url}\n")
        sys.stdout.flush()
        threading.Event().wait()
