"""Doubles of what an optimizer's refreshes need: executors that a test controls, and clients that count or fail."""

from __future__ import annotations

from concurrent.futures import Executor, Future
from typing import TYPE_CHECKING, Any, Literal

import matfn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from matfn.invocation import Invocation

__all__ = ["AtOnce", "CountingClient", "DownClient", "OnDemand"]


class AtOnce(Executor):
    """Runs each call where it is submitted."""

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is done."""
        future: Future[Any] = Future()
        try:
            future.set_result(call(*args, **kwargs))
        except Exception as error:  # noqa: BLE001 - it belongs to the future
            future.set_exception(error)
        return future


class OnDemand(Executor):
    """Runs calls only when the test says so."""

    def __init__(self) -> None:
        self.calls: list[Callable[[], None]] = []

    def submit(self, call: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """A future that is not done."""
        future: Future[Any] = Future()
        self.calls.append(lambda: future.set_result(call(*args, **kwargs)))
        return future

    def run(self) -> None:
        """Finishes every call that waits."""
        while self.calls:
            self.calls.pop(0)()


class CountingClient(matfn.LocalClient):
    """A client in this process that notes the calls of every request."""

    def __init__(self) -> None:
        super().__init__(device="cpu")
        self.requests: list[list[Invocation[Any]]] = []

    def _answers(self, calls: Iterable[Invocation[Any]], progress: bool, on_error: Any) -> list[Any]:
        calls = list(calls)
        self.requests.append(calls)
        return super()._answers(calls, progress, on_error)


class DownClient:
    """A client whose server can be taken down, and then refuses all connections."""

    def __init__(self) -> None:
        self.up = matfn.LocalClient(device="cpu")
        self.down = True

    @property
    def with_info(self) -> DownClient:
        """All functions."""
        return self

    def map(self, calls: Iterable[Invocation[Any]], *, on_error: Literal["return"]) -> list[Any]:
        """An answer or an error for each call."""
        if not self.down:
            return self.up.with_info.map(calls, on_error=on_error)
        return [matfn.TransportError("connection refused").of_call(place) for place, _ in enumerate(calls)]
