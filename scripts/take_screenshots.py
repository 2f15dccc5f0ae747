"""Takes the screenshots of the page in docs/screenshots, against a server of its own; `make screenshots`.

With a folder as argument every tab goes there instead, to be looked at: in both languages, light and dark, at 1440 and
at 360 pixels.
"""

from __future__ import annotations

import contextlib
import shutil
import sys
import threading
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal
from urllib.parse import quote

import numpy as np
from playwright.sync_api import Browser, Page, sync_playwright

import matfn

sys.path.append(str(Path(__file__).parent.parent / "tests" / "support"))  # outside the tests too

from processes import running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

FOLDER: Final = Path(__file__).parent.parent / "docs" / "screenshots"
_LOOK_SECONDS: Final = 20  # of load before the live view is taken, so that its charts hold something
_COLOURS: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")


@dataclass(frozen=True, slots=True)
class Look:
    """What is taken: a place of the page, how it is opened, and which part of it; None takes what is in sight."""

    fragment: str
    width: int = 1440
    colours: Literal["light", "dark"] = "light"
    locale: str = "en-GB"
    height: int = 900
    part: str | None = None

    @property
    def tab(self) -> str:
        """The tab's name."""
        return self.fragment.partition("?")[0]


READY: Final = {
    "playground": ".plan",
    "functions": ".card",
    "verify": ".verdict.approximate",
    "live": ".lanes",
    "console": "textarea",
}
_SHAMPOO: Final = quote('{"a": {"way": "generate", "kind": "shampoo"}}')
_ORDER: Final = quote('{"n": 64}')
_LARGE: Final = quote('{"m": 384, "n": 256}')
_PROVED: Final = quote('{"certify": "proved"}')
LOOKS: Final = {
    "playground": Look(f"playground?f=inv_root&n={_ORDER}&in={_SHAMPOO}&o={_PROVED}"),
    "steps": Look("playground?f=msign&d=float64", part="figure:has(.two)"),
    "plan": Look(f"playground?f=msign&d=float32&n={_LARGE}", part=".plan"),
    "functions": Look("functions", colours="dark"),
    "verify": Look("verify"),
    "live": Look("live", height=1000),
    "console": Look("console", colours="dark"),
    "phone": Look("playground?f=eig_clip", width=360, locale="zh-CN", height=1500),
}
EVERY: Final = {
    f"{tab}-{width}-{colours}-{locale[:2]}": Look(tab, width, colours, locale, 900, "body")
    for tab, width, colours, locale in product(READY, (1440, 360), _COLOURS, ("en-GB", "zh-CN"))
}


@contextlib.contextmanager
def load(url: str) -> Iterator[None]:
    """Callers with roots, polar factors and clipped matrices, some of which are refused."""
    stop = threading.Event()
    threads = [threading.Thread(target=_call, args=(url, seed, stop), daemon=True) for seed in range(4)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _call(url: str, seed: int, stop: threading.Event) -> None:
    rng = np.random.default_rng(seed)
    g = rng.standard_normal((16, 96, 96)).astype(np.float32)
    spd = g @ np.swapaxes(g, -1, -2) / 96 + np.eye(96, dtype=np.float32)
    with matfn.Client(url) as client:
        while not stop.wait(rng.random() * 0.05):
            count = int(rng.integers(1, 16))
            match seed:
                case 0 | 1:
                    client.inv_root(spd[:count], r=4)
                case 2:
                    client.msign(g[:count, :, :64])
                case _:
                    client.eig_clip(spd[:count, :48, :48], lo=0)
                    with contextlib.suppress(matfn.NotPositive):
                        client.log(spd[0] if count > 1 else -spd[0])


def take(browser: Browser, url: str, look: Look, path: Path) -> None:
    """Opens the page in a context of its own, waits until it shows what it has, and takes it."""
    context = browser.new_context(
        viewport={"width": look.width, "height": look.height}, color_scheme=look.colours, locale=look.locale
    )
    page = context.new_page()
    page.goto(f"{url}/#{look.fragment}")
    page.wait_for_selector(READY[look.tab])
    _settle(page, look)
    if look.part is None or look.part == "body":
        page.screenshot(path=path, full_page=look.part == "body" and look.tab != "functions")
    else:
        page.locator(look.part).first.screenshot(path=path)
    context.close()


def _settle(page: Page, look: Look) -> None:
    if look.tab == "live":
        page.wait_for_timeout(_LOOK_SECONDS * 1000)
        return
    if look.tab == "console":
        page.get_by_role("button").filter(has_text="Send").or_(page.locator("button.primary")).first.click()
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(500)


def main() -> None:
    """Takes all of them."""
    looks, folder = (EVERY, Path(sys.argv[1])) if sys.argv[1:] else (LOOKS, FOLDER)
    folder.mkdir(parents=True, exist_ok=True)
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    with running_server() as server, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=["--no-sandbox", "--disable-gpu"])
        for name, look in looks.items():
            with load(server.url) if look.tab == "live" else contextlib.nullcontext():
                take(browser, server.url, look, folder / f"{name}.png")
        browser.close()


if __name__ == "__main__":
    main()
