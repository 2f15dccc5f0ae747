"""The playground: every function runs, matrices come in every way, and what goes wrong is said in words."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import numpy as np
import pytest
import scipy.linalg
from playwright.sync_api import expect

from matfn_kernels import FUNCTIONS

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browsing import Opening
    from processes import ServerProcess

DEMO = Path(__file__).parents[2] / "demo" / "matrices.npz"
VERDICT = ".results .verdict:not(.idle)"


def run(page: Page) -> None:
    """Presses Run, once the matrix at hand has been taken over."""
    with page.expect_response(re.compile("/v1/")):
        page.get_by_role("button", name="Run", exact=True).click()


def paste(page: Page, text: str) -> None:
    """Pastes a text as the matrix."""
    page.get_by_role("radio", name="Paste").check()
    page.get_by_role("textbox", name="Paste").fill(text)


def test_first_sight_is_an_answer(opened: Opening) -> None:
    """The page opens with a computed answer: verdict, maps, spectra, the iteration, and the call as code."""
    page = opened()

    expect(page.locator(VERDICT)).to_contain_text("Converged")
    expect(page.locator("p.check")).to_contain_text("this page's own evaluation")
    expect(page.locator(".heat canvas")).to_have_count(2)
    expect(page.get_by_role("heading", name="Spectrum before and after")).to_be_visible()
    assert page.locator(".chart .dot.before").count() == 32
    assert page.locator(".chart .dot.after").count() >= 32
    expect(page.locator("pre")).to_contain_text("client.with_info.inv_root(a, r=4)")
    expect(page.locator(".timing")).to_contain_text("Batch of 1")


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_runs(opened: Opening, name: str) -> None:
    """Each function has a converged answer for the matrices that the page proposes."""
    page = opened(f"playground?f={name}")

    expect(page.locator(VERDICT)).to_have_class(re.compile("converged"))
    expect(page.locator("pre")).to_contain_text(f".{name}(")


CHECKED = (
    *("root", "inv_root", "sqrt_pair", "log", "exp", "power", "msign", "mclip", "polar", "norm2", "cond"),
    *("eig_clip", "eigh", "geometric_mean", "tri_inv", "tri_solve", "mcsgn", "spectral_projector", "frechet_distance"),
    *("solve_sylvester", "solve_lyapunov", "solve_discrete_lyapunov", "dplr_inv", "dplr_solve"),
)
BY_DTYPE: list[tuple[str, str, dict[str, float]]] = [
    (name, dtype, {}) for name in CHECKED for dtype in ("float32", "bfloat16")
]
BY_PARAMETER: list[tuple[str, str, dict[str, float]]] = [
    ("exp", "float32", {"t": -3}),
    ("power", "float32", {"p": -1.25}),
    ("power", "float32", {"p": 3}),
    ("power", "float32", {"p": 0.5, "shift": 0.25}),
    ("log", "float32", {"damping": 1e-2}),
    ("geometric_mean", "float32", {"t": 0.2}),
    ("geometric_mean", "float32", {"t": -1}),
    ("dplr_solve", "float32", {"transpose": True}),
]


@pytest.mark.parametrize(("name", "dtype", "params"), [*BY_DTYPE, *BY_PARAMETER])
def test_own_check_agrees_with_the_estimate(opened: Opening, name: str, dtype: str, params: dict[str, float]) -> None:
    """The page's own evaluation in float64 is as near to the answer as the certificate says, or below its rounding."""
    linked = f"&p={quote(json.dumps(params))}" if params else ""
    page = opened(f"playground?f={name}&d={dtype}{linked}")

    found = page.locator("p.check")
    expect(found).to_contain_text("differs by")
    shown = re.search(r"differs by ([\d.e-]+?)(?:\.? |,)", found.inner_text())
    assert shown is not None
    estimate = float(page.locator(".facts div", has_text="error estimate").locator("dd").inner_text())
    condition = float(page.locator(".facts div", has_text="condition").locator("dd").inner_text())
    assert float(shown[1]) <= 1.1 * estimate + 1e-15 * condition  # two digits are shown of each


RESIDUALS = {
    "eigh": "A V - V diag(w)",
    "eigenbasis": "A Q - Q diag(w)",
    "solve_care": "A^T X + X A - X B R^~1 B^T X + Q",
    "solve_dare": "A^T X A - X - A^T X B (R + B^T X B)^~1 B^T X A + Q",
    "solve_discrete_lyapunov": "X - A X A^T - Q",
}
SIGNS = {
    "-": "\N{MINUS SIGN}",
    "^T": "\N{MODIFIER LETTER CAPITAL T}",
    "^~1": "\N{SUPERSCRIPT MINUS}\N{SUPERSCRIPT ONE}",
}


@pytest.mark.parametrize("name", RESIDUALS)
def test_residual_is_of_the_order_of_rounding(opened: Opening, name: str) -> None:
    """The page finds the residual of an answer by itself; in float64 it is about its rounding."""
    page = opened(f"playground?f={name}&d=float64")

    told = reduce(lambda text, sign: text.replace(*sign), SIGNS.items(), RESIDUALS[name])
    found = page.locator("p.check")
    expect(found).to_contain_text(f"The residual {told}, which")
    shown = re.search(r", is ([\d.e-]+)\.$", found.inner_text())
    assert shown is not None
    assert float(shown[1]) < 1e-13


def test_residual_has_the_descriptor(opened: Opening) -> None:
    """The residual of an equation with a descriptor matrix is that of the equation with it."""
    page = opened("playground?f=solve_lyapunov&d=float64&in=" + quote('{"e": {"used": true}}'))

    expect(page.locator("p.check")).to_contain_text("E X A\N{MODIFIER LETTER CAPITAL T}")
    expect(page.locator("p.check")).to_contain_text(re.compile(r", is \d\.\de-1[2-6]\.$"))


@pytest.mark.parametrize("name", ["norm2", "cond"])
def test_interval_is_shown_in_full(opened: Opening, name: str) -> None:
    """Both ends of an interval are numbers with all their digits, named as in the formula."""
    page = opened(f"playground?f={name}&d=float64")

    ends = page.locator(".scalar")
    expect(ends).to_have_count(2)
    expect(page.locator("figure math")).to_have_text(["lo", "hi"])
    lo, hi = (float(text) for text in ends.all_inner_texts())
    assert lo < hi < lo * (1 + 1e-12)


def test_vectors_and_indices_are_shown(opened: Opening) -> None:
    """Eigenvalues are a row of colours whose entries are read by keys, the drift a number, the permutation a list."""
    page = opened("playground?f=eigenbasis&d=bfloat16")
    expect(page.locator(VERDICT)).to_contain_text("Converged")

    row = page.locator(".heat.flat")
    expect(row).to_have_count(1)
    row.locator("canvas").press("ArrowRight")
    expect(row.locator("output")).to_contain_text(re.compile(r"\[0, 1\] = -?\d"))
    expect(page.locator(".scalar")).to_have_count(1)
    assert sorted(map(int, page.locator(".listed").inner_text().split(", "))) == list(range(32))


def test_inputs_that_exclude_each_other_are_not_both_sent(opened: Opening) -> None:
    """Choosing gates for each channel takes back those for all channels, and the call is answered."""
    page = opened("playground?f=delta_rule")
    for name in ("log_gate", "channel_log_gate"):
        page.locator("label", has=page.get_by_role("radio", name=name, exact=True)).click()
        page.get_by_role("checkbox", name=f"Send {name} too").check()
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("Converged")
    expect(page.locator("pre")).to_contain_text(", channel_log_gate=channel_log_gate)")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_bases_are_rotations(opened: Opening, dtype: str) -> None:
    """A basis that must be orthonormal is generated as a rotation, and nothing else is offered."""
    page = opened(f"playground?f=eigenbasis&d={dtype}")
    page.locator("label", has=page.get_by_role("radio", name="q", exact=True)).click()
    expect(page.get_by_label("Kind").locator("option")).to_have_text(["Rotation"])
    page.get_by_role("slider", name="Angle").fill("60")
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("Converged")


def test_proved_bound_is_shown(opened: Opening) -> None:
    """A proof is asked for by one choice, and its bound stands in the verdict."""
    page = opened()
    page.get_by_label("Certificate").select_option("proved")
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("a proved bound")
    expect(page.locator("pre")).to_contain_text('certify="proved"')


@pytest.mark.parametrize("text", ["4 0\n0 9", "4,0\n0,9", "[[4, 0], [0, 9]]"])
def test_matrices_are_pasted(opened: Opening, text: str) -> None:
    """A pasted matrix is computed, and its code holds its numbers."""
    page = opened("playground?f=inv_root")
    page.get_by_label("r", exact=True).fill("2")
    paste(page, text)
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("Converged")
    expect(page.locator("pre")).to_contain_text("np.array([[4, 0], [0, 9]], dtype=np.float32)")
    answer = page.locator(".heat").nth(1)
    answer.locator("canvas").press("ArrowRight")
    answer.locator("canvas").press("ArrowDown")
    expect(answer.locator("output")).to_contain_text("[1, 1] = 0.333333")


@pytest.mark.parametrize("dtype", ["float64", "float32", "bfloat16"])
def test_code_runs_as_it_is_shown(opened: Opening, dtype: str) -> None:
    """The Python and the JavaScript that the page shows give the answer that it shows."""
    page = opened(f"playground?f=sqrt_pair&d={dtype}")
    paste(page, "4 0\n0 9")
    run(page)
    expect(page.locator("pre")).to_contain_text("np.array([[4, 0], [0, 9]]")

    python = page.locator("pre").inner_text() + "\nprint(x.tolist(), y.shape)"
    done = subprocess.run([sys.executable, "-c", python], capture_output=True, text=True, check=True)
    page.get_by_role("button", name="JavaScript").click()
    javascript = page.locator("pre").inner_text().replace("console.log(answer.certificates, x)", "return x.length")
    numbers = page.evaluate(f"async () => {{ {javascript} }}")

    assert "outcome='converged'" in done.stdout
    assert "[[2.0, 0.0], [0.0, 3.0]] (2, 2)" in done.stdout
    assert numbers == 4


def test_unreadable_text_is_told(opened: Opening) -> None:
    """A row that is too short is named while one types, and NaN is the service's to refuse."""
    page = opened()
    paste(page, "1 2\n3")
    expect(page.locator(".verdict")).to_contain_text("Row 2 has 1 numbers and the first one 2.")

    paste(page, "1 nan\nnan 1")
    run(page)
    expect(page.locator(VERDICT)).to_contain_text("An input holds NaN or infinity.")
    expect(page.locator(VERDICT)).to_contain_text("HTTP 422")


@pytest.mark.parametrize("kind", ["npy", "csv", "mtx", "json"])
def test_files_are_taken(opened: Opening, tmp_path: Path, kind: str) -> None:
    """Files of each kind are matrices."""
    a = np.array([[4.0, 1.0], [1.0, 3.0]])
    path = tmp_path / f"A.{kind}"
    if kind == "npy":
        np.save(path, np.asfortranarray(a))
    elif kind == "json":
        path.write_text(json.dumps(a.tolist()))
    elif kind == "csv":
        np.savetxt(path, a, delimiter=",")
    else:
        path.write_text("%%MatrixMarket matrix coordinate real symmetric\n2 2 3\n1 1 4\n2 1 1\n2 2 3\n")
    page = opened()
    page.get_by_role("radio", name="File").check()
    page.locator("input[type=file]").set_input_files(path)
    expect(page.locator(".drop")).to_contain_text(f"A.{kind} · 2 \N{MULTIPLICATION SIGN} 2")
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("Converged")
    expect(page.locator("pre")).to_contain_text("np.array([[4, 1], [1, 3]]")


def test_wrong_file_is_told(opened: Opening, tmp_path: Path) -> None:
    """A file that is no matrix is named as such."""
    path = tmp_path / "words.csv"
    path.write_text("these,are\nno,numbers\n")
    page = opened()
    page.get_by_role("radio", name="File").check()
    page.locator("input[type=file]").set_input_files(path)

    expect(page.locator(".wrong")).to_contain_text("is not a number")


def test_link_brings_the_call_back(opened: Opening) -> None:
    """The address holds function, parameters, options and the matrix: another browser sees the same answer."""
    page = opened("playground?f=msign&d=float64")
    page.get_by_label("Kind").select_option("hilbert")
    page.get_by_label("Order").or_(page.get_by_role("slider", name="m", exact=True)).first.fill("20")
    run(page)
    expect(page.locator(VERDICT)).to_be_visible()
    expect(page.locator(".heat").first).to_contain_text("20 \N{MULTIPLICATION SIGN} 32")
    address = page.url

    again = opened(address.split("#")[1])

    expect(again.locator(VERDICT)).to_be_visible()
    expect(again.locator(".heat").first).to_contain_text("20 \N{MULTIPLICATION SIGN} 32")
    expect(again.get_by_label("Kind")).to_have_value("hilbert")
    assert again.locator(".facts").inner_text() == page.locator(".facts").inner_text()


DAMAGED = [
    "f=nothing&in=" + quote("{]"),
    "f=inv_root&in=null&p=7&o=[]&n=3&d=int8",
    "f=inv_root&n="
    + quote('{"n": -4, "x": 2}')
    + "&in="
    + quote('{"a": {"way": "magic", "kind": "toString", "seed": "x"}}'),
    "f=inv_root&in=" + quote('{"a": {"kind": "spectrum", "settings": {"condition": -7, "decay": "no"}}, "b": 1}'),
]


@pytest.mark.parametrize("link", DAMAGED)
def test_damaged_link_is_mended(opened: Opening, link: str) -> None:
    """Whatever an address says that cannot be, the page takes as it is at first."""
    page = opened(f"playground?{link}")

    expect(page.locator(VERDICT)).to_contain_text("Converged")
    expect(page.locator(".heat").first).to_contain_text("32 \N{MULTIPLICATION SIGN} 32")


def npy(array: np.ndarray) -> bytes:
    """An array as a .npy file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def drop(page: Page, name: str, content: bytes) -> None:
    """Drops a file where the matrix is wanted."""
    page.get_by_role("radio", name="File").check()
    dropped = page.evaluate_handle(
        """([octets, name]) => {
            const all = new DataTransfer();
            all.items.add(new File([Uint8Array.from(octets)], name));
            return all;
        }""",
        [list(content), name],
    )
    page.dispatch_event(".drop", "drop", {"dataTransfer": dropped})


DROPPED = {
    "A.csv": b"4,1\n1,3",
    "A.npy": npy(np.array([[4.0, 1.0], [1.0, 3.0]])),
    "A.mtx": b"%%MatrixMarket matrix array real general\n2 2\n4\n1\n1\n3\n",
}


@pytest.mark.parametrize("name", DROPPED)
def test_dropped_file_is_taken(opened: Opening, name: str) -> None:
    """A file that is dropped is the matrix."""
    page = opened()
    drop(page, name, DROPPED[name])
    expect(page.locator(".drop")).to_contain_text(f"{name} \N{MIDDLE DOT} 2")
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("Converged")


@pytest.mark.parametrize(("name", "content"), [("N.npy", npy(np.full((2, 2), np.nan))), ("N.csv", b"1,inf\ninf,1")])
def test_file_with_nan_is_refused_in_words(opened: Opening, name: str, content: bytes) -> None:
    """NaN and infinity in a file are taken as they are, and refused by the service in words."""
    page = opened()
    drop(page, name, content)
    expect(page.locator(".drop")).to_contain_text(name)
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("An input holds NaN or infinity.")
    expect(page.locator(VERDICT)).to_contain_text("HTTP 422")


def test_indefinite_matrix_is_refused_in_words(opened: Opening) -> None:
    """A refusal names the code, its meaning and what to try."""
    page = opened()
    paste(page, "-4 0\n0 -9")
    run(page)

    verdict = page.get_by_role("alert")
    expect(verdict).to_contain_text("Refused: not_positive")
    expect(verdict).to_contain_text("A matrix has an eigenvalue that the function excludes.")
    expect(verdict).to_contain_text("What to try:")


def test_singular_matrix_says_its_shift(opened: Opening) -> None:
    """Where damping was used, the verdict says for which matrix the answer is."""
    page = opened()
    page.get_by_label("Kind").select_option("covariance")
    run(page)

    expect(page.locator(VERDICT)).to_have_class(re.compile("approximate"))
    expect(page.locator(VERDICT)).to_contain_text(re.compile("The answer is that of A . .* I: the shift was added"))


def test_iteration_moves_by_steps(opened: Opening) -> None:
    """The slider moves the values step by step, until all of them are 1 and the residual is rounding."""
    page = opened("playground?f=msign")
    slider = page.get_by_role("slider", name="Step")
    expect(slider).to_be_visible()
    slider.fill("0")
    expect(page.locator(".chart svg[aria-label^='After 0 steps']")).to_be_visible()

    slider.fill(slider.get_attribute("max") or "")

    expect(page.locator(".two")).to_contain_text(
        re.compile(r"all values lie between 1 and 1; the residual is (\d\.\de-1[5-7]|0)\.")
    )
    expect(page.locator(".two .legend")).to_have_text(re.compile("optimal for this matrix.*Newton-Schulz.*Muon"))


def test_plan_has_the_price_of_every_rival(opened: Opening) -> None:
    """The chosen method stands first, the others below with their prices; another order has another plan."""
    page = opened("playground?f=msign&d=float64")
    rows = page.locator(".plan tbody tr")
    expect(rows.first).to_contain_text("chosen")
    expect(page.locator(".plan")).to_contain_text("newton_schulz")
    assert rows.count() >= 2
    before = rows.first.locator("td").last.inner_text()

    with page.expect_response(re.compile("/v1/plan/msign")):
        page.get_by_role("slider", name="m", exact=True).fill("300")

    expect(rows.first.locator("td").last).not_to_have_text(before)


def test_plan_of_a_proof_is_the_cheapest(opened: Opening) -> None:
    """No rival's price is below that of the chosen method, proofs included."""
    page = opened("playground?f=msign&d=float64&o=" + quote('{"certify": "proved"}'))
    expect(page.locator(".plan .chosen")).to_be_visible()

    widths = page.locator(".plan .price").evaluate_all("all => all.map((one) => parseFloat(one.style.width))")

    assert len(widths) >= 2
    assert widths == sorted(widths)


@pytest.mark.parametrize(("name", "options"), [("inv_root", {}), ("msign", {"certify": "proved"})])
def test_true_error_stands_beside_the_estimate(opened: Opening, name: str, options: dict[str, str]) -> None:
    """Where this page's own evaluation is far more accurate, the true error is told, and keeps every promise."""
    page = opened(f"playground?f={name}&d=float32&o={quote(json.dumps(options))}")
    expect(page.locator(".facts")).to_contain_text("true error")

    found = page.locator(".facts div").evaluate_all(
        "all => Object.fromEntries(all.map((one) => [...one.children].map((part) => part.textContent)))"
    )

    assert float(found["true error"]) <= 1.1 * float(found["error estimate"])
    assert float(found["true error"]) <= 1.1 * float(found.get("proved bound", "inf"))
    assert float(found["error estimate"]) <= float(found["tolerance"])
    expect(page.get_by_role("img", name=re.compile("The error on a scale.*true error.*tolerance"))).to_be_visible()


def test_rounding_of_the_page_is_no_true_error(opened: Opening) -> None:
    """An answer in float64 is as accurate as the page's own evaluation, which then is no truth."""
    page = opened("playground?f=inv_root&d=float64")

    expect(page.locator("p.check")).to_contain_text("whose own rounding may reach")
    expect(page.locator(".facts")).not_to_contain_text("true error")


GALLERY = {
    "inv_root": ("lehmer", "minij", "kms", "shampoo", "fid", "digits", "pascal", "moler", "prolate"),
    "eigh": ("wilkinson", "laplacian", "hilbert"),
    "mcsgn": ("frank", "grcar"),
    "msign": ("kahan", "momentum"),
    "tri_inv": ("deltanet",),
}


@pytest.mark.parametrize(("name", "kind"), [(name, kind) for name, kinds in GALLERY.items() for kind in kinds])
def test_gallery_is_answered(opened: Opening, name: str, kind: str) -> None:
    """Matrices of the gallery and real ones have answers, with a shift where they are singular to rounding."""
    inputs = {{"msign": "m", "tri_inv": "t"}.get(name, "a"): {"way": "generate", "kind": kind}}
    page = opened(
        f"playground?f={name}&d=float64&n={quote(json.dumps({'n': 12, 'm': 12}))}&in={quote(json.dumps(inputs))}"
    )

    expect(page.get_by_label("Kind")).to_have_value(kind)
    expect(page.locator(VERDICT)).to_have_class(re.compile("converged|approximate"))


def test_gallery_is_scipys(modules: Page) -> None:
    """Named matrices are those that scipy makes, and those of their definitions."""

    def made(kind: str, order: int) -> np.ndarray:
        data = modules.evaluate(
            "async ([kind, n]) => [...(await use('generate.js')).generate(kind, [n, n], {}, 1, {}).data]", [kind, order]
        )
        return np.array(data).reshape(order, order)

    np.testing.assert_array_equal(made("pascal", 9), scipy.linalg.pascal(9))
    np.testing.assert_allclose(made("hilbert", 6), scipy.linalg.hilbert(6), rtol=1e-15)
    assert np.linalg.det(made("frank", 6)) == pytest.approx(1.0)
    assert np.linalg.det(made("moler", 6)) == pytest.approx(1.0)
    np.testing.assert_allclose(np.linalg.inv(made("minij", 5))[:4, :4], made("laplacian", 4), atol=1e-12)
    np.testing.assert_array_equal(np.diag(made("wilkinson", 7)), [3, 2, 1, 0, 1, 2, 3])


def test_real_matrices_are_the_demos(modules: Page) -> None:
    """The real matrices are leading blocks of the demo's, in float32."""
    demo = np.load(DEMO, allow_pickle=False)
    for kind, name in (("shampoo", "shampoo_l_step20"), ("fid", "fid_cov_a"), ("momentum", "momentum_q_step20")):
        data = modules.evaluate(
            "async (kind) => { await (await use('real.js')).fetchReal();"
            " return [...(await use('generate.js')).generate(kind, [64, 64], {}, 1, {}).data]; }",
            kind,
        )
        np.testing.assert_array_equal(np.float32(data).reshape(64, 64), np.float32(demo[name][:64, :64]))


def test_real_matrix_has_its_order(opened: Opening) -> None:
    """What is larger than the real matrix is told in words."""
    page = opened("playground?f=inv_root&n=" + quote('{"n": 65}') + "&in=" + quote('{"a": {"kind": "shampoo"}}'))

    expect(page.locator(".verdict")).to_contain_text("This real matrix has order 64")


def test_large_call_is_refused_in_words(opened: Opening, keyed: ServerProcess) -> None:
    """A call above the server's limit is a sentence that names the limit."""
    page = opened("playground?f=inv_root&n=" + quote(json.dumps({"n": 65, "m": 8})), keyed.url)
    page.get_by_role("textbox", name="Key").fill("s3cret")
    page.get_by_role("button", name="Use this key").click()

    expect(page.get_by_role("alert")).to_contain_text("The call exceeds a limit of the server.")
    expect(page.get_by_role("alert")).to_contain_text("HTTP 413")
    expect(page.get_by_role("alert")).to_contain_text("20000")


def test_lost_connection_is_told(opened: Opening) -> None:
    """Without a network the page says so, and computes again when it is back."""
    page = opened()
    expect(page.locator(VERDICT)).to_contain_text("Converged")
    page.context.set_offline(True)
    page.get_by_role("button", name="Run", exact=True).click()
    expect(page.get_by_role("alert")).to_contain_text("The server cannot be reached")

    page.context.set_offline(False)
    run(page)

    expect(page.locator(VERDICT)).to_contain_text("Converged")


def test_keyboard_is_enough(opened: Opening) -> None:
    """Enter in a field runs the call; the first Tab offers the way past the navigation."""
    page = opened()
    expect(page.locator(VERDICT)).to_contain_text("Converged")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()

    page.get_by_label("r", exact=True).fill("2")
    with page.expect_response(re.compile("/v1/inv_root")):
        page.get_by_label("r", exact=True).press("Enter")

    expect(page.locator(VERDICT)).to_contain_text("Converged")
