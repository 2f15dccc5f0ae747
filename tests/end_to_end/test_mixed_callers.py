"""Many callers of mixed functions on a real server: batches form, and no answer depends on the batch."""

from __future__ import annotations

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import matfn
from matfn.answers import outputs_of
from matfn_kernels.reference import relative_error
from spectra import positive, rectangular

if TYPE_CHECKING:
    from processes import ServerProcess

CALLERS = 32
Call = tuple[str, tuple[Any, ...], dict[str, Any]]


def _calls() -> list[Call]:
    """Every function, in several shapes and dtypes."""
    rng = np.random.default_rng(0)
    triangle = rng.standard_normal((48, 48)) / 48 + 2 * np.eye(48)
    keys = rng.standard_normal((2, 100, 8)) / 8
    low_rank = (1 + rng.random((2, 100)), keys, keys)
    calls: list[Call] = []
    square = triangle + rng.standard_normal((48, 48)) / 20
    gaussian = rng.standard_normal(48), positive(48)[0], rng.standard_normal(48), positive(48, seed=1)[0]
    heads = rng.standard_normal((4, 24, 8))
    for dtype in (np.float32, np.float64):
        calls += [
            (name, tuple(array.astype(dtype) for array in arrays), keywords)
            for name, arrays, keywords in (
                ("mcsgn", (square,), {}),
                ("spectral_projector", (square,), {}),
                ("solve_sylvester", (square, triangle, square), {}),
                ("solve_lyapunov", (square, positive(48)[0]), {}),
                ("solve_care", (square[:12, :12], triangle[:12, :12], np.eye(12), np.eye(12)), {}),
                ("geometric_mean", (positive(48)[0], positive(48, seed=1)[0]), {}),
                ("eig_clip", (positive(48)[0],), {"lo": 0.1, "hi": 0.5}),
                ("frechet_distance", gaussian, {}),
                ("max_logit", (heads, heads[:2]), {}),
                ("qk_clip", (heads, heads, np.array([50.0, 150.0, 90.0, 400.0])), {}),
                ("delta_rule", (heads / 3, heads / 3, heads), {"chunk": 16}),
            )
        ]
        calls.append(("root", (square.astype(dtype), 3), {"structure": "general"}))
        calls += [
            ("inv_root", (positive(48, condition=1e3)[0].astype(dtype), 4), {}),
            ("inv_root", (positive(96, condition=1e8)[0].astype(dtype), 2), {"on_failure": "nan"}),
            ("root", (positive(48, items=3).astype(dtype), 2), {"g": rng.standard_normal((3, 5, 48)).astype(dtype)}),
            ("sqrt_pair", (positive(32)[0].astype(dtype),), {}),
            ("msign", (rectangular((64, 32))[0].astype(dtype),), {}),
            ("mclip", (rectangular((32, 64))[0].astype(dtype),), {"hi": 0.3, "lo": 0.05}),
            ("tri_inv", (triangle.astype(dtype),), {}),
            ("tri_solve", (triangle.astype(dtype), triangle[:, :3].astype(dtype)), {"transpose": True}),
            ("dplr_inv", tuple(array.astype(dtype) for array in low_rank), {}),
            ("dplr_solve", tuple(array.astype(dtype) for array in (*low_rank, keys)), {}),
        ]
    return calls


def _distance(x: Any, reference: Any) -> float:
    """Relative distance of two answers as wholes, whatever their shape."""
    exact = np.asarray(reference, np.float64)
    return float(np.linalg.norm(np.asarray(x, np.float64) - exact) / np.linalg.norm(exact))


def _ask(client: matfn.Client, call: Call) -> tuple[list[Any], matfn.Answer[Any]]:
    function, arrays, keywords = call
    answer = getattr(client.with_info, function)(*arrays, **keywords)
    return outputs_of(answer.value), answer


@pytest.mark.filterwarnings("ignore::matfn.ApproximateWarning")
def test_mixed_callers_share_batches_and_keep_their_answers(server: ServerProcess) -> None:
    """32 callers at once: batches larger than one call form, and each answer equals that of the call alone."""
    calls = _calls()
    with matfn.Client(server.url) as client:
        alone = [_ask(client, call) for call in calls]
        before = client.status()["batches"]["histogram"]

        def caller(number: int) -> list[tuple[int, list[Any], matfn.Answer[Any]]]:
            order = list(range(len(calls)))
            random.Random(number % 4).shuffle(order)
            return [(index, *_ask(client, calls[index])) for index in order]

        with ThreadPoolExecutor(CALLERS) as pool:
            together = [entry for part in pool.map(caller, range(CALLERS)) for entry in part]
        after = client.status()["batches"]["histogram"]

    for index, values, answer in together:
        expected, single = alone[index]
        for value, reference in zip(values, expected, strict=True):
            estimates = [c.error_estimate for c in single.certificates if c.error_estimate is not None]
            assert len(estimates) == len(single.certificates)
            assert value.dtype == reference.dtype
            assert _distance(value, reference) <= 2 * min(max(estimates), 1e-3)
        assert [c.method for c in answer.certificates] == [c.method for c in single.certificates]
    assert max(answer.timing.batch_size for _, _, answer in together) >= 4
    assert sum(after.values()) - sum(before.values()) < len(together) / 1.2


def test_bad_calls_change_no_other_answer(server: ServerProcess) -> None:
    """Good calls beside bad ones get the bits that they get alone; each bad call gets its own error."""
    good = positive(40, condition=1e2)[0]
    bad: list[tuple[Any, dict[str, Any], type[matfn.ProblemError]]] = [
        (np.full((40, 40), np.nan), {}, matfn.NotFinite),
        (-good, {}, matfn.NotPositive),
        (np.triu(good), {}, matfn.NotSymmetric),
        (good[:, :39], {}, matfn.InvalidShape),
        (good, {"tol": 1e-17}, matfn.InvalidParameter),
        (positive(40, condition=1e15)[0], {"tol": 1e-14}, matfn.NotConverged),
    ]
    with matfn.Client(server.url) as client:
        expected = client.inv_root(good, 4)
        for _ in range(3):
            calls = [matfn.call.inv_root(good, 4) for _ in range(8)]
            calls += [matfn.call.inv_root(array, 4, **keywords) for array, keywords, _ in bad]

            results = client.map(calls, on_error="return")

            for value in results[:8]:
                assert isinstance(value, np.ndarray)
                assert relative_error(value, expected) < 1e-13
            for error, (_, _, kind) in zip(results[8:], bad, strict=True):
                assert isinstance(error, kind)


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        (np.full((12, 12), np.nan), "not_finite"),
        (np.triu(np.ones((12, 12))), "not_symmetric"),
        (-np.eye(12), "not_positive"),
    ],
)
def test_a_bad_matrix_is_nan_among_others(server: ServerProcess, bad: Any, code: str) -> None:
    """With on_failure="nan" a matrix without an answer says why, and the others in the batch are answered."""
    good = positive(12, condition=1e2)[0]
    with matfn.Client(server.url, max_retries=0) as client:
        expected = client.inv_root(np.stack([good, good, good]), 4)

        answer = client.with_info.inv_root(np.stack([good, bad, good]), 4, on_failure="nan")

    assert [certificate.code for certificate in answer.certificates] == [None, code, None]
    assert np.isnan(answer.value[1]).all()
    np.testing.assert_array_equal(answer.value[::2], expected[::2])


def test_the_three_clients_agree(server: ServerProcess) -> None:
    """The synchronous, the asynchronous and the local client give the same values for the same calls."""

    async def asked() -> list[Any]:
        async with matfn.AsyncClient(server.url) as client:
            waiting = [getattr(client, function)(*arrays, **keywords) for function, arrays, keywords in calls]
            return list(await asyncio.gather(*waiting))

    calls = [call for call in _calls() if "on_failure" not in call[2]]
    with matfn.Client(server.url) as remote, matfn.LocalClient() as local:
        first = [getattr(remote, function)(*arrays, **keywords) for function, arrays, keywords in calls]
        third = [getattr(local, function)(*arrays, **keywords) for function, arrays, keywords in calls]
    second = asyncio.run(asked())

    for values in zip(first, second, third, strict=True):
        for outputs in zip(*(value if isinstance(value, tuple) else (value,) for value in values), strict=True):
            accuracy = 1e-3 if outputs[0].dtype == np.float32 else 1e-10
            assert _distance(outputs[1], outputs[0]) < accuracy
            assert _distance(outputs[2], outputs[0]) < accuracy
