"""An executor for one long call at a time, whose thread does not keep a process from ending."""

from __future__ import annotations

import atexit
import time
from concurrent.futures import Executor, Future
from threading import Thread
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar
from weakref import WeakSet

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["OwnThread"]

ArgumentsT = ParamSpec("ArgumentsT")
ValueT = TypeVar("ValueT")

_EXIT_SECONDS: Final = 30.0  # a thread inside torch while Python ends aborts the process; a dead server may not hold it

_running: WeakSet[Thread] = WeakSet()


class OwnThread(Executor):
    """Runs each call in a daemon thread of its own; the process waits for it at most half a minute when it ends."""

    def submit(
        self, call: Callable[ArgumentsT, ValueT], /, *args: ArgumentsT.args, **kwargs: ArgumentsT.kwargs
    ) -> Future[ValueT]:
        """The future of a call that has been started."""
        future: Future[ValueT] = Future()
        future.set_running_or_notify_cancel()
        thread = Thread(target=_run, args=(future, call, args, kwargs), name="matfn-refresh", daemon=True)
        thread.start()
        _running.add(thread)
        return future


def _run(future: Future[Any], call: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    try:
        future.set_result(call(*args, **kwargs))
    except BaseException as error:  # noqa: BLE001 - it is raised where the future's result is asked for
        future.set_exception(error)


@atexit.register
def _finish() -> None:
    """Joins the threads: one that has set its result may still be inside torch, freeing its tensors."""
    deadline = time.monotonic() + _EXIT_SECONDS
    for thread in list(_running):
        thread.join(max(0.0, deadline - time.monotonic()))
