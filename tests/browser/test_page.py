"""The page as a whole: tabs, keys, languages, colours, widths, and what assistive technology finds."""

from __future__ import annotations

import contextlib
import json
import re
import shlex
import subprocess
import threading
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

import matfn
from matfn_kernels import FUNCTIONS
from processes import running_server

if TYPE_CHECKING:
    from playwright.sync_api import Page

    from browsing import Opening
    from processes import ServerProcess

READY = {
    "playground": ".verdict.converged",
    "functions": ".card",
    "verify": ".verdict.approximate",
    "live": ".tile",
    "console": "textarea",
}


def shown(opened: Opening, tab: str, **context: Any) -> Page:
    """A tab, once it has what it shows."""
    page = opened(tab, **context)
    page.wait_for_selector(READY[tab])
    return page


@pytest.mark.parametrize("tab", READY)
@pytest.mark.parametrize("colours", ["light", "dark"])
def test_axe_finds_nothing(opened: Opening, tab: str, colours: str) -> None:
    """axe-core has nothing to say of any tab, in light and dark."""
    page = shown(opened, tab, color_scheme=colours)
    if tab == "playground":
        page.wait_for_selector(".chart .dot.after")

    found = Axe().run(page)

    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("tab", READY)
@pytest.mark.parametrize("width", [360, 768, 1440])
@pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
def test_page_fits_its_width(opened: Opening, tab: str, width: int, locale: str) -> None:
    """Nothing sticks out at the side, from a phone to a desk."""
    page = shown(opened, tab, viewport={"width": width, "height": 800}, locale=locale)

    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_language_is_the_browsers_and_can_be_changed(opened: Opening) -> None:
    """A Chinese browser sees Chinese, functions included; the choice of another language stays."""
    page = shown(opened, "functions", locale="zh-CN")
    expect(page.get_by_role("navigation")).to_contain_text("试验场")
    expect(page.locator("#function-msign")).to_contain_text("极因子")

    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("navigation")).to_contain_text("Playground")
    page.reload()

    expect(page.get_by_role("navigation")).to_contain_text("Playground")
    assert page.evaluate("document.documentElement.lang") == "en"


@pytest.mark.parametrize(("colours", "other"), [("light", "Dark colours"), ("dark", "Light colours")])
def test_colours_are_the_systems_and_can_be_changed(opened: Opening, colours: str, other: str) -> None:
    """The page follows the system, and the toggle changes it."""
    page = shown(opened, "functions", color_scheme=colours)
    before = page.evaluate("getComputedStyle(document.body).backgroundColor")

    page.get_by_role("button", name=other).click()

    expect(page.get_by_role("button", name=other)).to_have_count(0)
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != before


def test_key_is_asked_for_and_kept_in_memory(opened: Opening, keyed: ServerProcess) -> None:
    """A wrong key is asked for again; the right one is used, stored nowhere, and gone after loading again."""
    page = opened("", keyed.url)
    page.get_by_role("textbox", name="Key").fill("wrong")
    page.get_by_role("button", name="Use this key").click()
    expect(page.get_by_role("dialog")).to_contain_text("does not know this key")
    page.get_by_role("textbox", name="Key").fill("s3cret")
    page.get_by_role("textbox", name="Key").press("Enter")

    expect(page.locator(".verdict.converged")).to_be_visible()
    kept = page.evaluate("JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])")
    assert "s3cret" not in kept
    page.get_by_role("button", name="curl").click()
    expect(page.locator("pre")).to_contain_text("Authorization: Bearer $MATFN_API_KEY")
    page.reload()
    expect(page.get_by_role("dialog")).to_contain_text("only with a key")


def test_no_key_is_told(opened: Opening, keyed: ServerProcess) -> None:
    """Without a key the page says what is missing, and offers to try again."""
    page = opened("", keyed.url)
    page.get_by_role("button", name="Cancel").click()

    expect(page.get_by_role("alert")).to_contain_text("The API key is missing or wrong.")
    page.get_by_role("button", name="Try again").click()
    expect(page.get_by_role("dialog")).to_be_visible()


def test_functions_are_the_catalogues(opened: Opening) -> None:
    """Each function has a card, which is found by its name and leads to the playground."""
    page = shown(opened, "functions")
    expect(page.locator(".card")).to_have_count(len(FUNCTIONS))
    expect(page.locator("#function-inv_root .formula math").first).to_be_visible()

    page.get_by_label("Search").fill("solve_care")
    expect(page.locator(".card")).to_have_count(1)
    page.get_by_role("link", name="Try it: solve_care").click()

    expect(page.get_by_label("Function")).to_have_value("solve_care")
    expect(page.locator(".results .verdict:not(.idle)")).to_be_visible()


@pytest.mark.parametrize("width", [360, 1440])
def test_formulas_are_broken_into_lines(opened: Opening, width: int) -> None:
    """Every formula can be read without scrolling, and says by its label what the catalogue says."""
    page = shown(opened, "functions", viewport={"width": width, "height": 800})

    found = page.locator(".formula").evaluate_all(
        "all => all.map((one) => [one.getAttribute('aria-label'), one.scrollWidth - one.clientWidth])"
    )

    assert [label for label, _ in found] == [function.formula for function in FUNCTIONS.values()]
    assert {label: excess for label, excess in found if excess > 0} == {}


def test_outputs_are_named_as_in_the_formula(opened: Opening) -> None:
    """Each of several outputs stands beside its part of the formula."""
    page = shown(opened, "functions")

    def told(name: str) -> list[str]:
        rows = page.locator(f"#function-{name} dd", has=page.locator("math")).locator("div")
        return list(rows.all_text_contents())

    assert told("norm2") == ["x (*) lo", "y (*) hi"]
    assert told("eigenbasis") == ["x (*, n, n) Q", "y (*, n) w", "z (*) drift", "w (*, n) permutation"]
    assert told("log") == []


def test_claims_are_judged(opened: Opening) -> None:
    """A claim that is off is told, and one that is right holds."""
    page = shown(opened, "verify")
    expect(page.locator(".verdict")).to_contain_text("The claim does not hold")
    expect(page.locator(".verdict > p")).to_have_count(1)  # what missed the tolerance is said once

    page.get_by_role("slider", name="Disturb").fill("0")
    with page.expect_response(re.compile("/v1/verify/inv_root")):
        page.get_by_role("button", name="Verify").click()

    expect(page.locator(".verdict")).to_contain_text("The claim holds")


@pytest.mark.parametrize("name", [name for name, entry in FUNCTIONS.items() if entry.verifiability != "none"])
def test_claims_of_every_function_are_judged(opened: Opening, name: str) -> None:
    """Of each function that can be verified, the service's own answer holds."""
    page = shown(opened, "verify")
    page.get_by_label("Function").select_option(name)
    for slider in page.get_by_role("slider", name="Disturb").all():
        slider.fill("0")
    with page.expect_response(re.compile(f"/v1/verify/{name}")):
        page.get_by_role("button", name="Verify").click()

    expect(page.locator(".verdict")).to_contain_text("The claim holds")


def test_pasted_claim_is_judged(opened: Opening) -> None:
    """An inverse root from elsewhere is right or wrong by its numbers alone."""
    page = shown(opened, "verify")
    page.get_by_label("r", exact=True).fill("2")
    page.get_by_role("radio", name="Paste").first.check()
    page.get_by_role("textbox", name="Paste").first.fill("4 0\n0 16")
    page.get_by_role("radio", name="Paste").last.check()
    for claim, words in (("0.5 0\n0 0.25", "The claim holds"), ("0.5 0\n0 0.5", "The claim does not hold")):
        page.get_by_role("textbox", name="Paste").last.fill(claim)
        page.get_by_role("button", name="Verify").click()

        expect(page.locator(".verdict")).to_contain_text(words)


def test_live_tab_counts_calls(opened: Opening, server: ServerProcess) -> None:
    """Calls that others make are seen within seconds."""
    page = shown(opened, "live")
    answered = page.locator(".tile", has_text="Calls answered").locator("strong")
    before = int(answered.inner_text())

    with matfn.Client(server.url) as client:
        for _ in range(5):
            client.inv_root([[4.0, 1.0], [1.0, 3.0]], r=2)

    expect(answered).not_to_have_text(str(before))
    expect(page.get_by_label("By function")).to_contain_text("inv_root")


def test_live_tab_draws_batches(opened: Opening, server: ServerProcess) -> None:
    """Each batch is drawn with its calls and functions, and listed with its matrices, method and time."""
    page = shown(opened, "live")

    with matfn.Client(server.url) as client:
        client.geometric_mean(np.stack([np.eye(7)] * 5), 2 * np.eye(7))

    drawn = page.locator(".lanes svg g title", has_text="5 \N{MULTIPLICATION SIGN} geometric_mean")
    expect(drawn).to_have_count(1)
    listed = page.locator(".lanes tr", has_text="geometric_mean")
    expect(listed.first).to_contain_text("5 \N{MULTIPLICATION SIGN} 7 \N{MULTIPLICATION SIGN} 7")
    expect(listed.first).to_contain_text("cholesky_polar")
    expect(page.locator(".lanes .legend")).to_contain_text("geometric_mean")


def test_live_tab_is_of_use_under_overload(opened: Opening) -> None:
    """While callers are turned away, the view goes on, counts refusals by code, and shows what waits by its key."""
    a = np.broadcast_to(np.eye(200) + 0.5, (24, 200, 200))
    with running_server(queue_seconds="0.5", batch_seconds="0.05") as crowded:
        page = opened("live", crowded.url)
        page.wait_for_selector(".tile")
        stop = threading.Event()

        def call() -> None:
            with matfn.Client(crowded.url, max_retries=0) as client:
                while not stop.is_set():
                    with contextlib.suppress(matfn.MatfnError):
                        client.inv_root(a, r=4)

        callers = [threading.Thread(target=call, daemon=True) for _ in range(12)]
        for caller in callers:
            caller.start()
        try:
            expect(page.locator("tr", has_text="busy: There is no room for the call now.")).to_be_visible()
            expect(
                page.locator("table", has_text="Waiting, by what").locator("tr", has_text="inv_root")
            ).to_be_visible()
            expect(page.locator(".lanes .running").first).to_be_visible()
        finally:
            stop.set()
            for caller in callers:
                caller.join()


def test_live_tab_rests_when_nobody_looks(opened: Opening) -> None:
    """Nothing is asked for while the page is hidden or another tab is open, and one request at a time otherwise."""
    page = shown(opened, "live")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
    tell = "document.dispatchEvent(new Event('visibilitychange'))"

    page.evaluate(hide % "true" + tell)
    with page.expect_response(re.compile("/readyz")):
        page.evaluate("new Promise((go) => setTimeout(go, 2500)).then(() => fetch('readyz'))")
    hidden = [url for url in asked if "status" in url]
    with page.expect_response(re.compile("/v1/status")):
        page.evaluate(hide % "false" + tell)
    page.get_by_role("link", name="Functions").click()
    page.wait_for_selector(".card")
    asked.clear()
    with page.expect_response(re.compile("/readyz")):
        page.evaluate("new Promise((go) => setTimeout(go, 2500)).then(() => fetch('readyz'))")

    assert len(hidden) <= 1  # the one that was under way
    assert [url for url in asked if "status" in url] == []


def test_every_ready_call_is_answered(opened: Opening) -> None:
    """The console's calls of every function, verification and gradient are answered as they stand.

    Answers of functions and gradients are converged; a verification's claim is any matrix, and need not hold.
    """
    page = shown(opened, "console")

    statuses = page.evaluate("""async () => {
        const root = new URL(".", document.querySelector("script[src]").src);
        const { readyCall } = await import(new URL("console.js", root));
        const catalogue = await (await fetch("v1/functions")).json();
        const found = {};
        const outcomesOf = ({ certificates, answers }) =>
            certificates?.map(({ outcome }) => outcome) ?? answers.flatMap((answer) => outcomesOf(answer));
        for (const { value } of document.querySelectorAll("option")) {
            const path = value;
            if (!path.startsWith("v1/") || /functions$|status$|batches$/.test(path)) continue;
            const body = JSON.stringify(readyCall(catalogue, path));
            const answer = await fetch(path, { method: "POST", body, headers: { "content-type": "application/json" } });
            const text = await answer.text();
            if (path.startsWith("v1/plan/") && answer.status === 200 && JSON.parse(text).seconds > 0) {
                found[path] = "good";
                continue;
            }
            const outcomes = answer.status === 200 ? outcomesOf(JSON.parse(text)) : [text];
            const good = path.startsWith("v1/verify/") ? ["converged", "approximate"] : ["converged"];
            found[path] = outcomes.every((outcome) => good.includes(outcome)) ? "good" : outcomes;
        }
        return found;
    }""")

    assert len(statuses) > len(FUNCTIONS)
    assert {path: answer for path, answer in statuses.items() if answer != "good"} == {}


def test_cost_is_told_when_asked_for(opened: Opening) -> None:
    """A card asks for the prices of its function at some orders when somebody opens them."""
    page = shown(opened, "functions")
    cost = page.locator("#function-inv_root details", has_text="on this server")

    cost.locator("summary").click()

    expect(cost).to_contain_text(re.compile(r"32 .*128 .*512 .*eigh|engine"))


def test_console_copies_curl_and_reads_numbers(opened: Opening) -> None:
    """A call is copied for a shell as it stands, and small outputs are shown as numbers."""
    page = shown(opened, "console", permissions=["clipboard-read", "clipboard-write"])
    page.locator("textarea").fill('{"inputs": {"a": [[4, 0], [0, 9]]}, "params": {"r": 2}}')
    page.get_by_role("button", name="Copy as curl").click()
    copied = page.evaluate("navigator.clipboard.readText()")
    page.get_by_role("button", name="Send").click()

    expect(page.locator(".decoded")).to_contain_text(re.compile(r"0\.5 +0\s+0 +0\.333333"))
    done = subprocess.run(shlex.split(copied), capture_output=True, text=True, check=True)
    assert json.loads(done.stdout)["certificates"][0]["outcome"] == "converged"


def test_console_sends_what_is_written(opened: Opening) -> None:
    """A call is changed and sent; what is no JSON is named, and a refusal is shown as it came."""
    page = shown(opened, "console")
    page.locator("textarea").fill('{"inputs": {"a": [[4, 0], [0, 9]]}, "params": {"r": 2}}')
    page.locator("textarea").press("Control+Enter")
    expect(page.get_by_role("region", name="Answer")).to_contain_text("HTTP 200")
    expect(page.locator("pre")).to_contain_text('"outcome": "converged"')

    page.locator("textarea").fill('{"inputs": {"a": [[4, 0], [0, 9]]')
    expect(page.locator(".wrong")).to_contain_text("Not JSON yet")
    page.get_by_role("button", name="Send").click()
    expect(page.get_by_role("region", name="Answer")).to_contain_text("HTTP 400")

    page.get_by_label("Route").select_option("v1/status")
    page.get_by_role("button", name="Send").click()
    expect(page.locator("pre")).to_contain_text('"state": "ready"')
