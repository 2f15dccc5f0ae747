"""All functions in this process, without a server: the client's door to the kernels.

Everything that needs torch is imported on use, so that `import matfn` stays light; without the extra `service` the
constructor says what to install.
"""

from __future__ import annotations

import math
import os
import time
from contextlib import suppress
from dataclasses import asdict, replace
from datetime import UTC, datetime
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, Literal, TypeVar, overload

from matfn import wire
from matfn._methods.values import ValueMethods
from matfn.answers import Answer, warn_if_approximate
from matfn.arrays import from_torch, kind_of, layouts_of, plain_inputs, tensor_as_torch, to_torch
from matfn.catalogue import DTYPES, ENTRIES, FUNCTIONS, OPTIONS
from matfn.compatibility import WIRE_VERSIONS
from matfn.errors import ClosedError, ForkedError, MatfnError, Problem, ProblemError, problem_error
from matfn.exchange import prepare
from matfn.handles import Handled, new_handle
from matfn.invocation import require_call
from matfn.limits import Limits
from matfn.map_run import is_raising, listed, values_of
from matfn.progress import counted
from matfn.stacking import SMALL_BYTES, apart, groups, stacked
from matfn.submission import Submitting, Threads
from matfn.values import is_value, value_of
from matfn.vectors import as_column, columns_of, require_vectors
from matfn.verify import Verify
from matfn.version import package_version
from matfn.vjp import Vjp
from matfn.wire import Certificate, Outcome, Residual, Timing
from matfn.with_info import WithInfo

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import TracebackType
    from typing import Self

    import torch

    import matfn_kernels
    from matfn.catalogue import Function
    from matfn.exchange import Prepared
    from matfn.invocation import Invocation
    from matfn.map_run import OnError
    from matfn.wire import Value
    from matfn_kernels import Profile

__all__ = ["LocalClient", "calibrated", "described"]

ValueT = TypeVar("ValueT")

_OUTCOMES: Final = {str(outcome): outcome for outcome in Outcome}


class LocalClient(Handled, Submitting, ValueMethods):
    """The functions computed in this process, with the methods of `Client`; needs the extra `service`.

    Arrays in the CPU's memory are read where they lie: nothing else may write to them during a call.

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
        self._device = str(self._like.device)
        self._limits = matfn_kernels.Limits()
        self._threads = Threads(1)
        self._closed = False
        self.handle = new_handle(self)

    @property
    def with_info(self) -> WithInfo:
        """All functions, each returning an Answer: value, certificates, timing and device."""
        return WithInfo(self, self._answers, self._threads)

    @property
    def verify(self) -> Verify:
        """All functions whose claimed answers can be verified, each returning certificates."""
        return Verify(self)

    @property
    def vjp(self) -> Vjp:
        """Vector-Jacobian products of all functions that have gradients, each returning the gradients."""
        return Vjp(self)

    def ask(self, invocation: Invocation[ValueT]) -> Answer[ValueT]:
        """The answer to a call that `matfn.call` built."""
        value, certificates, milliseconds = self._asked(invocation)
        timing = Timing(0.0, milliseconds, len(certificates), float(bool(certificates)), self._profile_label)
        return Answer(value, tuple(map(_translated, certificates)), timing, "", self._device)

    def _asked(self, invocation: Invocation[ValueT]) -> tuple[ValueT, tuple[matfn_kernels.Certificate, ...], float]:
        """The value of a call, its certificates and the milliseconds that they took."""
        self._require_open()
        arrays = plain_inputs(require_call(invocation).arrays)
        kind = kind_of(invocation.first)
        sizes = layouts_of(arrays)
        columns = columns_of(invocation.function, sizes)
        require_vectors(invocation.function, sizes)
        sizes |= {name: as_column(size) for name, size in sizes.items() if name in columns}
        limits = Limits(self._limits.max_order, self._limits.max_items, self._limits.max_elements)
        limits.check(invocation.function, sizes, invocation.plain_params())
        inputs = {name: to_torch(array, self._like) for name, array in arrays.items()}
        inputs |= {name: tensor.unsqueeze(-1) for name, tensor in inputs.items() if name in columns}
        params, options = invocation.plain_params(), invocation.plain_options()
        outputs, certificates, milliseconds = self._computed(invocation.function, inputs, params, options)
        _meet_deadline(options.get("deadline"), milliseconds)
        entry = ENTRIES[invocation.function]
        named = dict(zip(entry.outputs_of(inputs, params), outputs, strict=True))
        values = {
            name: from_torch(output.squeeze(-1) if name in columns else output, kind)
            for name, output in named.items()
            if is_value(entry, name)
        }
        return value_of(entry, values), certificates, milliseconds

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
        """Values of many calls, in their order; small ones of one function and shape are computed together.

        Args:
            calls: what `matfn.call` built.
            progress: show a bar on stderr.
            on_error: raise the first error, or return errors in the places of their values.

        Raises:
            MatfnError: the first error, unless errors are returned.
        """
        asked = listed(calls)
        return values_of(asked, self._answers(asked, progress, on_error))

    def functions(self) -> dict[str, Any]:
        """The catalogue: functions with inputs and parameters, options, and limits."""
        return {
            "functions": [described(function) for function in FUNCTIONS.values()],
            "options": [asdict(option) for option in OPTIONS],
            "limits": asdict(self._limits),
            "version": package_version(),
            "wire": list(WIRE_VERSIONS),
        }

    def status(self) -> dict[str, Any]:
        """The device, the profile that methods are chosen by, the state and the version."""
        state = "closed" if self._closed else "ready"
        profile = {"name": self._profile.name, "hash": self._profile.hash}
        return {"version": package_version(), "device": str(self._like.device), "profile": profile, "state": state}

    def close(self) -> None:
        """Ends the client; every later call raises ClosedError."""
        self._closed = True
        self._threads.end()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"LocalClient(device={self._device!r}{', closed' if self._closed else ''})"

    def _value(self, invocation: Invocation[ValueT]) -> ValueT:
        value, certificates, _ = self._asked(invocation)
        warn_if_approximate([(invocation.function, certificates)])
        return value

    def _answers(
        self, calls: Iterable[Invocation[Any]], progress: bool, on_error: OnError
    ) -> list[Answer[Any] | MatfnError]:
        calls, raises = listed(calls), is_raising(on_error)
        prepared = list(map(_on_this_machine, calls))
        kinds = [(None, None) if one is None else (one.call, one.likeness) for one in prepared]
        results: dict[int, Answer[Any] | MatfnError] = {}
        failed = len(calls)  # the first call that failed
        with counted(len(calls), shown=progress) as show:
            for group in groups(kinds, Limits(max_items=self._limits.max_items)):
                if raises and group[0] > failed:
                    break
                answers = self._answers_together([calls[i] for i in group], [prepared[i] for i in group])
                results |= {place: _placed(answer, place) for place, answer in zip(group, answers, strict=True)}
                failed = min([failed, *(i for i in group if isinstance(results[i], MatfnError))])
                show(len(results))
        if raises and isinstance(error := results.get(failed), MatfnError):
            raise error
        return [results[place] for place in range(len(calls))]

    def _answers_together(
        self, calls: Sequence[Invocation[Any]], prepared: Sequence[Prepared[Any] | None]
    ) -> Sequence[Answer[Any] | MatfnError]:
        """The answers to calls that are alike, computed as one; if that fails, one by one."""
        alike = [one for one in prepared if one is not None]
        if len(alike) > 1:
            with suppress(ProblemError):
                return self._stack_answered(alike)
        return [self._ask_or_error(call) for call in calls]

    def _stack_answered(self, prepared: Sequence[Prepared[Any]]) -> list[Answer[Any]]:
        self._require_open()
        call = stacked([one.call for one in prepared])
        inputs = {name: tensor_as_torch(tensor, self._like) for name, tensor in call.inputs.items()}
        outputs, certificates, milliseconds = self._computed(call.function, inputs, call.params, call.options)
        tensors = [kind_of(output).tensor(output) for output in outputs]
        entry = ENTRIES[call.function]
        named = dict(zip(entry.outputs_of(inputs, call.params), tensors, strict=True))
        answer = wire.Answer(
            {name: tensor for name, tensor in named.items() if name not in entry.gradients},
            tuple(map(_translated, certificates)),
            Timing(0.0, milliseconds, len(certificates), float(bool(certificates)), self._profile_label),
            self._device,
            "",
            {name: tensor for name, tensor in named.items() if name in entry.gradients},
        )
        parts = apart(answer, [one.call for one in prepared])
        return [one.answer(part) for one, part in zip(prepared, parts, strict=True)]

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("this client is closed")
        if self._device.startswith("cuda") and _is_forked():
            raise ForkedError(
                "CUDA does not work in a process forked from one that used it: start processes by spawn, as"
                ' multiprocessing.get_context("spawn") does, and make a LocalClient in each'
            )

    def _ask_or_error(self, call: Invocation[Any]) -> Answer[Any] | MatfnError:
        try:
            return self.ask(call)
        except ClosedError:
            raise
        except MatfnError as error:
            return error

    def _computed(
        self,
        function: str,
        inputs: Mapping[str, torch.Tensor],
        params: Mapping[str, Value],
        options: Mapping[str, Value],
    ) -> tuple[tuple[torch.Tensor, ...], tuple[matfn_kernels.Certificate, ...], float]:
        """Outputs, certificates and the milliseconds that they took."""
        import torch

        from matfn_kernels import Rejection, compute

        started = time.perf_counter()
        try:
            outputs, certificates = compute(
                function, inputs, params, options, profile=self._profile, limits=self._limits
            )
        except Rejection as error:
            raise problem_error(Problem.of(error.code, error.detail, hint=error.hint, index=error.index)) from None
        except torch.OutOfMemoryError as error:
            raise problem_error(Problem.of("out_of_memory", str(error))) from error
        return outputs, certificates, (time.perf_counter() - started) * 1000


def calibrated(name: str, device: str | None = None) -> Profile:
    """A profile of this machine, measured in a thread of its own that computes alone: one thread is its unit.

    Args:
        name: what to call it.
        device: what to measure, such as "cpu" or "cuda"; None takes a GPU if there is one.

    Raises:
        ValueError: if a profile cannot have this name, or there is no such device.
    """
    from concurrent.futures import ThreadPoolExecutor

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


def _is_forked() -> bool:
    """Whether this process was forked from one that used CUDA."""
    import torch

    return bool(torch.cuda._is_in_bad_fork())  # noqa: SLF001 - what torch's own refusal asks, too late for us


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
    from pathlib import Path

    from matfn_kernels import load_profile

    given = os.environ.get("MATFN_PROFILE")
    try:
        return load_profile(device, Path(given) if given else None)
    except ValueError as error:
        raise ValueError(f"MATFN_PROFILE={given}: {error}") from None


def _on_this_machine(call: Invocation[Any]) -> Prepared[Any] | None:
    """The call as it would be sent; None where it is large, lies on another device, or is what `ask` will refuse."""
    arrays = call.arrays.values()
    if any(getattr(getattr(array, "device", None), "type", "cpu") != "cpu" for array in arrays):
        return None
    try:
        is_small = sum(getattr(array, "nbytes", math.inf) for array in arrays) <= SMALL_BYTES
        return prepare(call) if is_small else None
    except MatfnError:
        return None


def _placed(answer: Answer[Any] | MatfnError, place: int) -> Answer[Any] | MatfnError:
    return answer.of_call(place) if isinstance(answer, MatfnError) else answer


def _meet_deadline(deadline: Value, milliseconds: float) -> None:
    if isinstance(deadline, int | float) and milliseconds > deadline * 1000:
        detail = f"the answer took {milliseconds / 1000:.3g} s, the deadline was {deadline:.3g} s"
        raise problem_error(Problem.of("deadline_exceeded", detail))


def _translated(given: matfn_kernels.Certificate) -> Certificate:
    """The kernels' certificate as the client's."""
    outcome, residual, *rest = _fields(given)
    return Certificate(_OUTCOMES[outcome], residual and Residual(residual.name, residual.value), *rest)


_fields: Final = attrgetter(*Certificate.__slots__)


def described(function: Function) -> dict[str, Any]:
    """A function as GET /v1/functions gives it."""
    described = asdict(function)
    dtypes = [name for name in DTYPES if function.complex_ok or not name.startswith("complex")]
    for name in ("complex_ok", "reference", "claims", "cotangents", "gradients"):
        del described[name]
    return described | {"dtypes": dtypes}
