"""All functions in this process, without a server: the client's door to the kernels.

Everything that needs torch is imported on use, so that `import matfn` stays light; without the extra `service` the
constructor says what to install.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, overload

from matfn._methods.values import ValueMethods
from matfn.answers import Answer, warn_if_approximate
from matfn.arrays import from_torch, kind_of, layout_of, plain, to_torch
from matfn.catalogue import DTYPES, FUNCTIONS, OPTIONS
from matfn.errors import ClosedError, MatfnError, Problem, problem_error
from matfn.invocation import require_call
from matfn.limits import Limits
from matfn.map_run import is_raising, listed, values_of
from matfn.progress import counted
from matfn.session import package_version
from matfn.verify import Verify
from matfn.wire import Certificate, Outcome, Residual, Timing
from matfn.with_info import WithInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from types import TracebackType
    from typing import Self

    import torch

    import matfn_kernels
    from matfn.catalogue import Function
    from matfn.invocation import Invocation
    from matfn.map_run import OnError
    from matfn_kernels import Profile

__all__ = ["LocalClient", "calibrated"]

ValueT = TypeVar("ValueT")


class LocalClient(ValueMethods):
    """The functions computed in this process, with the methods of `Client`; needs the extra `service`.

    Args:
        device: where to compute, such as "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        ValueError: if there is no such device, or MATFN_PROFILE names no profile of it.
    """

    def __init__(self, *, device: str | None = None) -> None:
        try:
            import torch

            import matfn_kernels
        except ImportError as error:
            raise ImportError('LocalClient computes in this process: pip install "matfn[service]"') from error
        self._like = torch.empty(0, device=_chosen_device(device))
        self._profile = _profile(str(self._like.device))
        self._profile_label = self._profile.label
        self._limits = matfn_kernels.Limits()
        self._closed = False

    @property
    def with_info(self) -> WithInfo:
        """All functions, each returning an Answer: value, certificates, timing and device."""
        return WithInfo(self, self._answers)

    @property
    def verify(self) -> Verify:
        """All functions whose claimed answers can be verified, each returning certificates."""
        return Verify(self)

    def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer to a call that `matfn.call` built."""
        if self._closed:
            raise ClosedError("this client is closed")
        import torch

        from matfn_kernels import Rejection

        arrays = {name: plain(array, f"the input {name}") for name, array in require_call(invocation).arrays.items()}
        kind = kind_of(invocation.first)
        started = time.perf_counter()
        try:
            outputs, certificates = self._evaluate(invocation, arrays)
        except Rejection as error:
            raise problem_error(Problem.of(error.code, error.detail, hint=error.hint, index=error.index)) from None
        except torch.OutOfMemoryError as error:
            raise problem_error(Problem.of("out_of_memory", str(error))) from error
        milliseconds = (time.perf_counter() - started) * 1000
        _meet_deadline(invocation, milliseconds)
        values = tuple(from_torch(output, kind) for output in outputs)
        value: Any = values[0] if len(values) == 1 else values
        timing = Timing(0.0, milliseconds, len(certificates), 1.0, self._profile_label)
        return Answer(value, certificates, timing, "", str(self._like.device))

    @overload
    def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["raise"] = "raise"
    ) -> list[ValueT]: ...

    @overload
    def map(
        self, calls: Iterable[Invocation[ValueT]], *, progress: bool = False, on_error: Literal["return"]
    ) -> list[ValueT | MatfnError]: ...

    def map(
        self,
        calls: Iterable[Invocation[Any]],
        *,
        progress: bool = False,
        on_error: Literal["raise", "return"] = "raise",
    ) -> list[Any]:
        """Values of many calls, in their order, one after another.

        Args:
            calls: what `matfn.call` built.
            progress: show a bar on stderr.
            on_error: raise the first error, or return errors in the places of their values.

        Raises:
            MatfnError: the first error, unless errors are returned.
        """
        asked = listed(calls)
        return values_of(asked, self._answers(asked, progress, on_error), stacklevel=2)

    def functions(self) -> dict[str, Any]:
        """The catalogue: functions with inputs and parameters, options, and limits."""
        return {
            "functions": [_described(function) for function in FUNCTIONS.values()],
            "options": [asdict(option) for option in OPTIONS],
            "limits": asdict(self._limits),
        }

    def status(self) -> dict[str, Any]:
        """The device, the profile that methods are chosen by, the state and the version."""
        state = "closed" if self._closed else "ready"
        profile = {"name": self._profile.name, "hash": self._profile.hash}
        return {"version": package_version(), "device": str(self._like.device), "profile": profile, "state": state}

    def close(self) -> None:
        """Ends the client; every later call raises ClosedError."""
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _value(self, invocation: Invocation[ValueT]) -> ValueT:
        answer = self.ask(invocation)
        warn_if_approximate([(invocation.function, answer.certificates)], stacklevel=3)
        return answer.value

    def _answers(
        self, calls: Iterable[Invocation[Any]], progress: bool, on_error: OnError
    ) -> list[Answer[Any] | MatfnError]:
        calls, ask = listed(calls), self.ask if is_raising(on_error) else self._ask_or_error
        results: list[Answer[Any] | MatfnError] = []
        with counted(len(calls), shown=progress) as show:
            for call in calls:
                results.append(ask(call))
                show(len(results))
        return results

    def _ask_or_error(self, call: Invocation[Any]) -> Answer[Any] | MatfnError:
        try:
            return self.ask(call)
        except ClosedError:
            raise
        except MatfnError as error:
            return error

    def _evaluate(
        self, invocation: Invocation[Any], arrays: Mapping[str, Any]
    ) -> tuple[tuple[torch.Tensor, ...], tuple[Certificate, ...]]:
        from matfn_kernels import compute

        sizes = {name: layout_of(array) for name, array in arrays.items()}
        Limits(self._limits.max_order, self._limits.max_items, self._limits.max_elements).check(
            invocation.function, sizes
        )
        inputs = {name: to_torch(array, self._like) for name, array in arrays.items()}
        params, options = invocation.plain_params(), invocation.plain_options()
        outputs, certificates = compute(
            invocation.function, inputs, params, options, profile=self._profile, limits=self._limits
        )
        return outputs, tuple(map(_translated, certificates))


def calibrated(name: str, device: str | None = None) -> Profile:
    """A profile of this machine, measured in a thread of its own that computes alone: one thread is its unit.

    Args:
        name: what to call it.
        device: what to measure, such as "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        ValueError: if a profile cannot have this name, or there is no such device.
    """
    import torch

    from matfn_kernels import Profile, described, measure

    chosen, threads = _chosen_device(device), torch.get_num_threads()
    where = f"{datetime.now(UTC):%Y-%m-%d}, {described(chosen)}: matfn calibrate"
    empty = Profile(chosen.partition(":")[0], (), name, where)  # refuses the name before anything is measured
    with ThreadPoolExecutor(1, "matfn-measure", initializer=torch.set_num_threads, initargs=(1,)) as alone:
        try:
            found = alone.submit(measure, chosen).result()
            return replace(empty, seconds=found.seconds, backends=found.backends)
        finally:
            # the caller keeps its own count, but threads that torch meets later would take over the last one set
            alone.submit(torch.set_num_threads, threads).result()


def _chosen_device(device: str | None) -> str:
    """The device that was named, or a GPU if there is one.

    Raises:
        ValueError: if there is no such device here.
    """
    import torch

    kind = "auto" if device is None else device.partition(":")[0]
    if kind not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"device={device!r}: matfn computes on cpu and cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={device!r}: PyTorch finds no GPU on this machine; cpu works without one")
    return device or ("cuda" if torch.cuda.is_available() else "cpu")


def _profile(device: str) -> Profile:
    """The profile in MATFN_PROFILE, else the one that ships for this kind of machine.

    Raises:
        ValueError: if there is no such profile in the file.
    """
    from matfn_kernels import load_profile

    given = os.environ.get("MATFN_PROFILE")
    try:
        return load_profile(device, Path(given) if given else None)
    except ValueError as error:
        raise ValueError(f"MATFN_PROFILE={given}: {error}") from None


def _meet_deadline(invocation: Invocation[Any], milliseconds: float) -> None:
    deadline = invocation.plain_options().get("deadline")
    if isinstance(deadline, int | float) and milliseconds > deadline * 1000:
        detail = f"the answer took {milliseconds / 1000:.3g} s, the deadline was {deadline:.3g} s"
        raise problem_error(Problem.of("deadline_exceeded", detail))


def _translated(given: matfn_kernels.Certificate) -> Certificate:
    """The kernels' certificate as the client's."""
    residual = None if given.residual is None else Residual(given.residual.name, given.residual.value)
    values = {name: getattr(given, name) for name in Certificate.__slots__}
    return Certificate(**values | {"outcome": Outcome(given.outcome), "residual": residual})


def _described(function: Function) -> dict[str, Any]:
    """A function as GET /v1/functions gives it."""
    described = asdict(function)
    dtypes = [name for name in DTYPES if function.complex_ok or not name.startswith("complex")]
    del described["complex_ok"], described["reference"], described["claims"]
    return described | {"dtypes": dtypes}
