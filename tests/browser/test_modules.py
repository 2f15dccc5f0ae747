"""What the page computes by itself: numbers, files, spectra and coefficients, against numpy and the kernels."""

from __future__ import annotations

import base64
import io
from typing import TYPE_CHECKING, Any

import ml_dtypes
import numpy as np
import pytest

from matfn_kernels.numbers.coefficients import schedule

if TYPE_CHECKING:
    from playwright.sync_api import Page

ROOTS_AND_BOUNDS = [(1, 1e-3), (2, 1e-1), (2, 1e-3), (2, 1e-7), (4, 0.1), (4, 1e-3), (8, 0.5), (2, 0.999999)]
DTYPES = [np.float64, np.float32, np.float16, ml_dtypes.bfloat16]


def test_coefficients_are_the_kernels(modules: Page) -> None:
    """The optimal coefficients are those of the kernels, step by step."""
    for r, bound in ROOTS_AND_BOUNDS:
        mine = modules.evaluate("async ([r, l]) => (await use('steps.js')).optimalSteps(r, l)", [r, bound])
        theirs = [(step.a, step.b, step.c) for step in schedule(r, bound)]

        assert len(mine) == len(theirs)
        np.testing.assert_allclose(mine, theirs, rtol=1e-6)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 2), (7, 3), (3, 7), (40, 40), (96, 64)])
def test_singular_values_are_numpys(modules: Page, rows: int, columns: int) -> None:
    """Singular values agree with LAPACK's to rounding, relative to the largest."""
    m = np.random.default_rng(rows).standard_normal((rows, columns))

    found = modules.evaluate(
        "async (m) => [...(await use('dense.js')).singularValues({shape: m.shape, data: Float64Array.from(m.data)})]",
        {"shape": m.shape, "data": m.ravel().tolist()},
    )

    expected = np.linalg.svd(m, compute_uv=False)
    np.testing.assert_allclose(found, expected, atol=1e-13 * expected[0], rtol=0)


@pytest.mark.parametrize("order", [1, 2, 5, 33, 80])
def test_eigenvalues_are_numpys(modules: Page, order: int) -> None:
    """Both of the page's ways to eigenvalues agree with LAPACK's to rounding, relative to the largest."""
    g = np.random.default_rng(order).standard_normal((order, order))
    a = g + g.T

    ql, jacobi = modules.evaluate(
        """async (m) => {
            const dense = await use('dense.js');
            const a = {shape: m.shape, data: Float64Array.from(m.data)};
            return [[...dense.eigenvalues(a)], [...dense.eigh(a).values]];
        }""",
        {"shape": a.shape, "data": a.ravel().tolist()},
    )

    expected = np.linalg.eigvalsh(a)[::-1]
    np.testing.assert_allclose(ql, expected, atol=1e-12 * np.abs(expected).max(), rtol=0)
    np.testing.assert_allclose(sorted(jacobi, reverse=True), expected, atol=1e-12 * np.abs(expected).max(), rtol=0)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numbers_are_rounded_as_by_numpy(modules: Page, dtype: Any) -> None:
    """The octets of a tensor are those that numpy makes, ties, subnormal numbers and infinities included."""
    rng = np.random.default_rng(0)
    values = np.concatenate(
        [
            *([rng.standard_normal(200) * 10.0**power for power in (-8, -5, 0, 4)]),
            *([1 + 2.0**-11, 1 + 3 * 2.0**-11, 1 + 2.0**-8, 2.0**-24, 2.0**-25, 65519.0, 65520.0, 0.0, -0.0],),
        ]
    )

    found = modules.evaluate(
        "async ([data, dtype]) => (await use('tensors.js')).encode({shape: [data.length], data}, dtype).data",
        [values.tolist(), np.dtype(dtype).name],
    )

    narrowed = values if dtype is np.float16 else values.astype(np.float32) if dtype is not np.float64 else values
    with np.errstate(over="ignore"):
        assert base64.b64decode(found) == narrowed.astype(dtype).tobytes()


@pytest.mark.parametrize("dtype", ["<f8", "<f4", "<f2", ">f8", ">f4", "<i4", "|u1", "<i8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_numpys_files_are_read(modules: Page, dtype: str, order: str) -> None:
    """.npy files of floats and integers, in both orders, are read as numpy reads them."""
    array = np.asarray(np.arange(24).reshape(2, 3, 4), dtype=dtype, order="F" if order == "F" else "C")
    file = io.BytesIO()
    np.save(file, array)

    found = modules.evaluate(
        """async (octets) => {
            const {shape, data} = (await use('read.js')).parseNpy(Uint8Array.from(octets));
            return {shape, data: [...data]};
        }""",
        list(file.getvalue()),
    )

    assert found == {"shape": [2, 3, 4], "data": list(map(float, range(24)))}


def test_written_files_are_numpys(modules: Page) -> None:
    """A saved answer is a file that numpy reads."""
    octets = modules.evaluate(
        "async () => [...(await use('tensors.js')).npy({shape: [2, 3], data: [1, 2, 3, 4, 5, 6.5]}, 'float32')]"
    )

    array = np.load(io.BytesIO(bytes(octets)))
    assert array.dtype == np.float32
    np.testing.assert_array_equal(array, [[1, 2, 3], [4, 5, 6.5]])


TEXTS = {
    "4 1\n1 3": [[4, 1], [1, 3]],
    "4, 1\n1, 3\n": [[4, 1], [1, 3]],
    "4,1;1,3": [[4, 1], [1, 3]],
    "# a comment\n4\t1e-3\n1 -3.5": [[4, 1e-3], [1, -3.5]],
    "[[4, 1], [1, 3]]": [[4, 1], [1, 3]],
    "%%MatrixMarket matrix coordinate real symmetric\n% why\n2 2 2\n1 1 4\n2 1 1\n": [[4, 1], [1, 0]],
    "%%MatrixMarket matrix coordinate pattern general\n2 2 1\n1 2\n": [[0, 1], [0, 0]],
    "%%MatrixMarket matrix array real general\n2 2\n4\n1\n2\n3\n": [[4, 2], [1, 3]],
    "%%MatrixMarket matrix array real skew-symmetric\n2 2\n5\n": [[0, -5], [5, 0]],
}


@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_read(modules: Page, text: str) -> None:
    """Rows, JSON and Matrix Market are matrices."""
    found = modules.evaluate(
        "async (text) => (await use('tensors.js')).nested((await use('read.js')).parseText(text))", text
    )

    assert found == TEXTS[text]


WRONG = {
    "": "read.empty",
    "1 2\n3": "read.width",
    "1 x\n3 4": "read.word",
    "[[1, 2], [3]]": "read.ragged",
    "[1, 2": "read.json",
    '{"a": 1}': "read.list",
    "%%MatrixMarket matrix coordinate complex general\n1 1 1\n1 1 1 0": "read.market",
    "%%MatrixMarket matrix coordinate real general\n1 1 1\n2 1 5": "read.market",
}


@pytest.mark.parametrize("text", WRONG)
def test_wrong_texts_are_named(modules: Page, text: str) -> None:
    """What cannot be read is told by a word of the dictionaries."""
    found = modules.evaluate(
        """async (text) => {
            try { (await use('read.js')).parseText(text); return null; } catch (error) { return error.word; }
        }""",
        text,
    )

    assert found == WRONG[text]


def test_generated_spectra_are_as_chosen(modules: Page) -> None:
    """A generated matrix has the condition that its slider shows, for each decay, and is symmetric where it must be."""
    for decay in ("geometric", "linear", "one_small", "one_large", "clusters"):
        data = modules.evaluate(
            """async (decay) => [...(await use('generate.js')).generate(
                'spectrum', [24, 24], {decay, condition: 5}, 1, {symmetric: true, shape: ['n', 'n']}).data]""",
            decay,
        )
        a = np.array(data).reshape(24, 24)

        np.testing.assert_array_equal(a, a.T)
        assert np.linalg.cond(a) == pytest.approx(1e5, rel=1e-6)


def test_means_of_stages_are_of_the_last_seconds(modules: Page) -> None:
    """A stage's mean is its time over its count between the first and the last of the last samples."""
    found = modules.evaluate(
        """async () => {
            const { meanOf } = await use('live.js');
            const at = (count, seconds) => ({ status: { stages: { read: { count, seconds } } } });
            return [meanOf([at(1, 9), at(3, 9.5)], 'read'), meanOf([at(3, 9.5), at(3, 9.5)], 'read')];
        }"""
    )

    assert found == [250.0, None]
