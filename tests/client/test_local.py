"""The client without a server."""

from __future__ import annotations

import pickle
import sys
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
import matfn_kernels
from matfn import local
from matfn.answers import outputs_of
from matfn.catalogue import FUNCTIONS
from matfn.check import DTYPES, cases, verdict_of, verdicts
from matfn_kernels.programs.profile import Profile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from matfn.check import Case

torch = pytest.importorskip("torch")

A = np.diag([1.0, 4.0, 9.0])


@pytest.fixture
def client() -> Iterator[matfn.LocalClient]:
    """A client on the CPU."""
    with matfn.LocalClient(device="cpu") as client:
        yield client


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.invocation.function}-{case.dtype}")
def test_self_test_is_right(client: matfn.LocalClient, case: Case) -> None:
    """Every case of `matfn check` is within its bound of the truth known by construction."""
    verdict = verdict_of(client, case)

    assert verdict.right, verdict


@pytest.mark.parametrize("dtype", DTYPES)
def test_self_test_covers_the_catalogue(dtype: str) -> None:
    """Every function has a case in every dtype, and roots of general matrices and gradients are among them."""
    calls = [case.invocation for case in cases() if case.dtype == dtype]
    gradients = {"vjp/inv_root", "vjp/msign", "vjp/solve_sylvester"}

    assert {asked.function for asked in calls} == set(FUNCTIONS) | gradients
    assert any(asked.function == "root" and asked.params["structure"] == "general" for asked in calls)


def test_self_test_notices_a_wrong_answer(client: matfn.LocalClient) -> None:
    """An answer that is off by a thousandth is wrong in every case."""

    class Wrong:
        def ask(self, invocation: Any) -> Any:
            answer = client.ask(invocation)
            scaled = tuple(v * 1.001 for v in outputs_of(answer.value))
            return matfn.Answer(scaled, answer.certificates, answer.timing, "", "cpu")

    assert not any(verdict.right for verdict in verdicts(Wrong(), cases()))


def test_self_test_counts_an_error_as_wrong() -> None:
    """A service that refuses a good matrix is wrong too."""

    class Refusing:
        def ask(self, invocation: Any) -> Any:
            raise matfn.TransportError(invocation.function)

    assert not any(verdict.right for verdict in verdicts(Refusing(), cases()))


def test_kind_and_leading_dimensions_return(client: matfn.LocalClient) -> None:
    """Kinds of arrays return: numpy for numpy, torch for torch; leading dimensions as they were."""
    stacked = np.broadcast_to(A, (2, 3, 3, 3))

    assert isinstance(client.root(A, 2), np.ndarray)
    assert isinstance(client.root(torch.tensor(A), 2), torch.Tensor)
    assert client.root(stacked, 2).shape == (2, 3, 3, 3)


def test_errors_are_typed(client: matfn.LocalClient) -> None:
    """A refusal of the kernels is the exception that the server's answer would be."""
    with pytest.raises(matfn.NotPositive) as caught:
        client.inv_root(np.stack([A, -A]), 2)
    assert (caught.value.index, caught.value.status) == (1, 422)

    with pytest.raises(matfn.InvalidParameter):
        client.inv_root(A, 0)
    with pytest.raises(matfn.NotFinite):
        client.inv_root(A * np.nan, 2)
    with pytest.raises(matfn.UnsupportedDtype):
        client.inv_root(np.eye(2, dtype=int), 2)
    with pytest.raises(matfn.DeadlineExceeded):
        client.inv_root(A, 2, deadline=1e-9)


def test_failed_matrix_may_be_nan(client: matfn.LocalClient) -> None:
    """on_failure="nan" marks the bad matrix and answers the good one."""
    answer = client.with_info.inv_root(np.stack([A, -A]), 2, on_failure="nan")

    np.testing.assert_allclose(answer.value[0], np.diag([1, 1 / 2, 1 / 3]))
    assert np.isnan(answer.value[1]).all()
    assert [certificate.code for certificate in answer.certificates] == [None, "not_positive"]


def test_map_answers_in_order(client: matfn.LocalClient) -> None:
    """Values and errors stand in their calls' places."""
    calls = [matfn.call.root(A, 2), matfn.call.root(-A, 2), matfn.call.sqrt_pair(A)]

    values = client.map(calls, on_error="return", progress=False)

    assert [type(value).__name__ for value in values] == ["ndarray", "NotPositive", "tuple"]
    with pytest.raises(matfn.NotPositive):
        client.map(calls)


def test_map_with_info_answers_in_order(client: matfn.LocalClient) -> None:
    """with_info.map gives certificates too, and errors in their places if they are wanted."""
    calls = [matfn.call.root(A, 2), matfn.call.root(-A, 2)]

    answers = client.with_info.map(calls, on_error="return")

    assert isinstance(answers[0], matfn.Answer)
    assert isinstance(answers[1], matfn.NotPositive)
    with pytest.raises(matfn.NotPositive):
        client.with_info.map(calls)


def scaled(invocation: matfn.Invocation[Any], factor: float) -> matfn.Invocation[Any]:
    """The call with its arrays, but for an orthonormal basis, multiplied by a power of 2."""
    factors = {"q": 1.0} if invocation.function == "eigenbasis" else {}
    arrays = {name: (a * factors.get(name, factor)).astype(a.dtype) for name, a in invocation.arrays.items()}
    return replace(invocation, inputs=arrays)


def bits(result: Any) -> Any:
    """An answer but for its timing, or the words of an error."""
    if not isinstance(result, matfn.Answer):
        return str(result)
    values = [(value.dtype, value.shape, value.tobytes()) for value in outputs_of(result.value)]
    return values, result.certificates


@pytest.mark.parametrize("case", cases(), ids=lambda case: f"{case.invocation.function}-{case.dtype}")
def test_map_answers_each_call_as_if_it_were_alone(client: matfn.LocalClient, case: Case) -> None:
    """Values, certificates and errors are those of single calls, bit for bit."""
    calls = [scaled(case.invocation, factor) for factor in (1, 4, 0.25, 2)]

    alone = [client.with_info.map([call], on_error="return")[0] for call in calls]
    together = client.with_info.map(calls, on_error="return")

    assert list(map(bits, together)) == list(map(bits, alone))


def test_map_computes_small_calls_together(client: matfn.LocalClient) -> None:
    """Calls that differ in their numbers alone share a batch; those with a deadline do not."""
    calls = [matfn.call.root(A * scale, 2) for scale in (1.0, 2.0, 3.0)]
    others = [matfn.call.root(A, 3), matfn.call.root(A, 2, deadline=60.0)]

    answers = client.with_info.map([*calls, *others])

    assert [answer.timing.batch_size for answer in answers] == [3, 3, 3, 1, 1]


def test_map_gives_each_call_an_array_of_its_own_kind(client: matfn.LocalClient) -> None:
    """Answers of one batch share no memory, and torch tensors get torch tensors."""
    arrays: tuple[Any, ...] = torch.from_numpy(A), A, torch.from_numpy(A)

    first, second, third = client.map([matfn.call.root(a, 2) for a in arrays])

    first.zero_()
    assert isinstance(second, np.ndarray)
    assert np.allclose(second, np.sqrt(A))
    assert np.allclose(third.numpy(), np.sqrt(A))


def test_map_raises_the_error_of_the_first_call(client: matfn.LocalClient) -> None:
    """Calls that are computed together with earlier ones do not speak before their turn."""
    calls = [matfn.call.root(A, 2), matfn.call.tri_inv(np.zeros((2, 2))), matfn.call.root(-A, 2)]

    with pytest.raises(matfn.Singular):
        client.map(calls)


@pytest.mark.parametrize("with_info", [False, True])
def test_map_says_which_call_failed(client: matfn.LocalClient, with_info: bool) -> None:
    """The error of one among calls that are computed together names the call and its matrix."""
    good, bad = np.eye(2), np.stack([np.eye(2), -np.eye(2)])
    calls = [*[matfn.call.inv_root(good, r=2)] * 7, matfn.call.inv_root(bad, r=2)]

    with pytest.raises(matfn.NotPositive, match="call 7: matrix 1: ") as raised:
        (client.with_info if with_info else client).map(calls)

    assert (raised.value.call, raised.value.index) == (7, 1)
    errors = client.map(calls[6:] * 2, on_error="return")
    assert [getattr(error, "call", None) for error in errors] == [None, 1, None, 3]


def test_answer_counts_the_calls_matrices(client: matfn.LocalClient) -> None:
    """The batch is the call itself; there is no request to have an id."""
    answer = client.with_info.root(np.broadcast_to(A, (2, 3, 3, 3)), 2)

    assert (answer.timing.batch_size, answer.request_id) == (6, "")


def test_profile_stands_in_status_and_timing(client: matfn.LocalClient) -> None:
    """The client says by which profile it chooses methods, and so does each of its answers."""
    profile = client.status()["profile"]

    assert client.with_info.root(A, 2).timing.profile == f"{profile['name']}@{profile['hash']}"


def test_broken_profile_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that MATFN_PROFILE names and that is no profile fails the constructor, with the file's name."""
    path = tmp_path / "profile.json"
    path.write_text("{}")
    monkeypatch.setenv("MATFN_PROFILE", str(path))

    with pytest.raises(ValueError, match=rf"^MATFN_PROFILE={path}: it is no profile: it has no 'device'"):
        matfn.LocalClient(device="cpu")


def test_machine_is_measured_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile is measured in a fresh thread that computes alone, whatever the caller's own count of threads."""
    seen: list[tuple[bool, int, str]] = []

    def measure(device: str) -> Profile:
        seen.append((threading.current_thread() is here, torch.get_num_threads(), device))
        return Profile.nominal()

    here, before = threading.current_thread(), torch.get_num_threads()
    monkeypatch.setattr(matfn_kernels, "measure", measure)

    found = local.calibrated("mine", "cpu")

    assert seen == [(False, 1, "cpu")]
    assert (found.label, found.device) == (f"mine@{found.hash}", "cpu")
    with ThreadPoolExecutor(1) as later:
        assert [torch.get_num_threads(), later.submit(torch.get_num_threads).result()] == [before, before]


def test_unfit_name_is_refused_before_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    """A profile must have a name that can be printed anywhere."""
    monkeypatch.setattr(matfn_kernels, "measure", lambda _: pytest.fail("measured"))

    with pytest.raises(ValueError, match="is no name"):
        local.calibrated("two words", "cpu")


def test_too_large_is_known_before_anything_is_copied(client: matfn.LocalClient) -> None:
    """Gigabytes that are one number in memory stay one number."""
    tracemalloc.start()
    with pytest.raises(matfn.TooLarge, match="MAX_ELEMENTS"):
        client.msign(np.broadcast_to(np.float64(0), (100, 8192, 1024)))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert peak < 1 << 20


def test_unusable_arguments_are_named(client: matfn.LocalClient) -> None:
    """What is no call, no array or no mode is a TypeError or ValueError that says so."""
    with pytest.raises(TypeError, match="item 0 of the calls is int"):
        client.map([3])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="the call is int"):
        client.ask(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="dense tensors"):
        client.msign(torch.eye(2).to_sparse())
    with pytest.raises(ValueError, match="on_error='ignore'"):
        client.map([], on_error="ignore")  # type: ignore[call-overload]


def test_local_client_can_be_copied(client: matfn.LocalClient) -> None:
    """A pickled client computes in the other process as this one does here."""
    copy = pickle.loads(pickle.dumps(client))  # noqa: S301 - our own bytes

    np.testing.assert_array_equal(copy.root(A, 2), client.root(A, 2))


def test_approximate_answer_warns(client: matfn.LocalClient) -> None:
    """Too few steps leave an approximate answer, and the plain call says so."""
    with pytest.warns(matfn.ApproximateWarning, match="msign") as caught:
        client.msign(A, steps=1)

    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("k", "words"),
    [
        (np.full((1, 2, 2), 1j), "k has complex128"),
        (np.ones((1, 2, 2), int), "the input k is int64"),
        (np.full((1, 2, 2), np.nan), "matrix 0 of k holds NaN"),
        (np.ones((1, 2, 3)), "k has shape"),
    ],
)
def test_input_at_fault_is_named(client: matfn.LocalClient, k: Any, words: str) -> None:
    """What is wrong with an input is not said of the one before it."""
    with pytest.raises(matfn.ProblemError, match=words):
        client.max_logit(np.ones((1, 2, 2), np.float32), k)


def test_inputs_are_left_alone(client: matfn.LocalClient) -> None:
    """Neither numpy's nor torch's memory is written to, and no result lies in it."""
    array, tensor = np.tril(np.ones((4, 4))), torch.tril(torch.ones(4, 4))
    before = array.copy(), tensor.clone()

    client.tri_inv(array)[:] = 7
    client.tri_inv(tensor)[:] = 7

    np.testing.assert_array_equal(array, before[0])
    assert torch.equal(tensor, before[1])


@pytest.mark.parametrize("a", [np.eye(3), np.diag([1.0, 4.0, 9.0]), np.zeros((3, 3)), A], ids=str)
def test_values_share_no_memory(client: matfn.LocalClient, a: np.ndarray) -> None:
    """What a caller writes into one value changes neither another one nor an input."""
    values = [a, *client.sqrt_pair(a + np.eye(3)), client.root(a, 1), client.eig_clip(a), client.mclip(a, hi=100.0)]

    assert not any(np.shares_memory(one, other) for one, other in combinations(values, 2))
    assert all(value.flags.writeable for value in values[1:])


def test_documents_describe_the_process(client: matfn.LocalClient) -> None:
    """functions() has the server's form, status() names device and state."""
    document = client.functions()

    assert {function["name"] for function in document["functions"]} >= {"inv_root", "msign"}
    assert {function["verifiability"] for function in document["functions"]} == {"bound", "estimate", "none"}
    assert not [function["name"] for function in document["functions"] if "reference" in function]
    assert document["limits"]["max_order"] == 8192
    assert client.status()["device"] == "cpu"


def test_closed_client_raises(client: matfn.LocalClient) -> None:
    """After close nothing is computed any more."""
    client.close()

    with pytest.raises(matfn.ClosedError):
        client.root(A, 2)
    with pytest.raises(matfn.ClosedError):
        client.map([matfn.call.root(A, 2)], on_error="return")


def test_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without torch the constructor says what to install."""
    monkeypatch.setitem(sys.modules, "torch", None)

    with pytest.raises(ImportError, match=r'pip install "matfn\[service\]"'):
        matfn.LocalClient()
