"""The page at /: its files, headers, size and words."""

from __future__ import annotations

import gzip
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import matfn_service
from matfn.errors import TABLE
from matfn_kernels import FUNCTIONS, OPTIONS
from matfn_service.front_page import PAGE_POLICY
from matfn_service.version import VERSION

if TYPE_CHECKING:
    import httpx

    from scripted import Opened

pytestmark = pytest.mark.anyio

FOLDER = Path(matfn_service.__file__).parent / "page"
FILES = sorted(path.name for path in FOLDER.iterdir() if path.name != "index.html")
TYPES = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".json": "application/json"}
MOST = 300 * 1024
IMPORT = re.compile(r'^import \{([^}]*)\} from "\./([\w.]+)";', re.MULTILINE)
EXPORT = re.compile(r"^export (?:async )?(?:function|const|class) (\w+)", re.MULTILINE)
PLACES = re.compile(r"\{\w+\}")


async def root_of(client: httpx.AsyncClient) -> str:
    """The folder of the page's files."""
    page = (await client.get("/")).text
    found = re.search(r'src="(page/[0-9a-f]{16}/)main.js"', page)
    assert found is not None
    return found[1]


@pytest.mark.parametrize("settings", [{}, {"api_keys": "secret"}])
async def test_page_needs_no_key(opened: Opened, settings: dict[str, str]) -> None:
    """The page and each of its files are open, with the right type, and tell neither limits nor the version."""
    async with opened(**settings) as client:
        page = await client.get("/")
        root = await root_of(client)
        answers = {name: await client.get(f"/{root}{name}") for name in FILES}

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert VERSION not in page.text
    assert {name: answer.status_code for name, answer in answers.items()} == dict.fromkeys(FILES, 200)
    for name, answer in answers.items():
        assert answer.content == (FOLDER / name).read_bytes()
        assert answer.headers["content-type"] == TYPES.get(Path(name).suffix, "image/svg+xml")


async def test_other_routes_keep_their_keys(opened: Opened) -> None:
    """What the page asks for needs the key, and the page's folder opens nothing else."""
    async with opened(api_keys="secret") as client:
        statuses = [
            (await client.get(path)).status_code
            for path in ("/v1/functions", "/v1/status", "/metrics", "/page/../v1/functions", "/page", "/page/x/main.js")
        ]

    assert statuses == [401, 401, 401, 401, 401, 404]


async def test_policy_is_strict(client: httpx.AsyncClient) -> None:
    """Page and files have the policy, by which only this server's own files run, and no inline script or style."""
    answers = [await client.get("/"), await client.get(f"/{await root_of(client)}worker.js")]

    assert [answer.headers["content-security-policy"] for answer in answers] == [PAGE_POLICY] * 2
    assert {answer.headers["x-content-type-options"] for answer in answers} == {"nosniff"}
    assert "unsafe" not in PAGE_POLICY
    assert "default-src 'none'" in PAGE_POLICY


async def test_nothing_comes_from_elsewhere() -> None:
    """No file names another host, but for namespaces, and none has inline scripts or styles."""
    text = "\n".join((FOLDER / name).read_text() for name in [*FILES, "index.html"])
    hosts = set(re.findall(r"https?://([\w.-]+\.\w+)", text))

    assert hosts == {"www.w3.org"}
    assert re.findall(r"<script>|<style|\sstyle=|\son\w+=\"|\beval\(|innerHTML|setAttribute\(\"style", text) == []


async def test_first_load_is_small(client: httpx.AsyncClient) -> None:
    """All files together are less than 300 KiB when compressed, which they are where the browser takes gzip."""
    root = await root_of(client)
    size = 0
    for path in ["/", *(f"/{root}{name}" for name in FILES)]:
        async with client.stream("GET", path, headers={"accept-encoding": "gzip"}) as answer:
            assert answer.headers["content-encoding"] == "gzip"
            size += int(answer.headers["content-length"])

    assert size < MOST
    assert size > sum(len(gzip.compress((FOLDER / name).read_bytes())) for name in FILES) / 2


async def test_plain_browsers_get_plain_files(client: httpx.AsyncClient) -> None:
    """Without Accept-Encoding files come as they are."""
    answer = await client.get(f"/{await root_of(client)}main.js", headers={"accept-encoding": "identity"})

    assert "content-encoding" not in answer.headers
    assert answer.headers["vary"] == "accept-encoding"


@pytest.mark.parametrize(("name", "caching"), [("", "no-cache"), ("main.js", "public, max-age=31536000, immutable")])
async def test_known_files_are_not_sent_again(client: httpx.AsyncClient, name: str, caching: str) -> None:
    """Files stay valid for good, the page is asked for each time, and what is known is 304."""
    path = f"/{await root_of(client)}{name}" if name else "/"
    first = await client.get(path)

    for tag in (first.headers["etag"], f'"other", W/{first.headers["etag"]}'):
        again = await client.get(path, headers={"if-none-match": tag})
        assert (again.status_code, again.content) == (304, b"")
    assert first.headers["cache-control"] == caching
    assert (await client.get(path, headers={"if-none-match": '"other"'})).status_code == 200


async def test_only_files_of_the_page_are_served(client: httpx.AsyncClient) -> None:
    """Unknown names and other releases are problems, other methods too; HEAD has the headers."""
    root = await root_of(client)

    for path in (f"/{root}index.html", f"/{root}..%2fapp.py", f"/{root}nothing.js", "/page/0123456789abcdef/main.js"):
        assert (await client.get(path)).json()["code"] == "not_found"
    assert (await client.post("/")).status_code == 405
    assert (await client.delete(f"/{root}main.js")).status_code == 405
    assert [(await client.head(path)).status_code for path in ("/", f"/{root}main.js")] == [200, 200]


async def test_every_module_is_fetched_at_once() -> None:
    """The page names all its modules, so that none waits until another has been read."""
    page = (FOLDER / "index.html").read_text()
    beside = {"worker.js", "reference.js", "equations.js"}  # the worker's, which has its own imports
    named = set(re.findall(r'(?:href|src)="page/RELEASE/([\w.]+)"', page))

    assert named == {name for name in FILES if name.endswith((".js", ".css", ".svg"))} - beside


async def test_imports_exist() -> None:
    """Each import is of a file, and of a name that this file exports."""
    sources = {name: (FOLDER / name).read_text() for name in FILES if name.endswith(".js")}
    exports = {name: set(EXPORT.findall(source)) for name, source in sources.items()}
    imports = [found for source in sources.values() for found in IMPORT.findall(source)]

    assert len(imports) > len(sources)
    for names, other in imports:
        assert {part.split(" as ")[0].strip() for part in names.split(",")} - {""} <= exports[other]


def words(language: str) -> dict[str, str]:
    """A dictionary of the page."""
    found: dict[str, str] = json.loads((FOLDER / f"words.{language}.json").read_text())
    return found


async def test_languages_have_the_same_words() -> None:
    """Both dictionaries have the same keys in the same order, and the same places to fill."""
    english, chinese = words("en"), words("zh")

    assert list(english) == list(chinese)
    for key, text in english.items():
        assert sorted(PLACES.findall(text)) == sorted(PLACES.findall(chinese[key])), key


async def test_words_that_are_used_exist() -> None:
    """Every word that a module names is in the dictionary."""
    text = "\n".join((FOLDER / name).read_text() for name in FILES if name.endswith(".js"))
    used = set(re.findall(r'\bt\(\s*"([\w.]+)"', text)) | set(re.findall(r'Unreadable\("([\w.]+)"', text))

    assert sorted(used - set(words("en"))) == []


async def test_every_code_has_its_words() -> None:
    """Each error code is explained."""
    assert {key.removeprefix("code.") for key in words("en") if key.startswith("code.")} == set(TABLE)


def sentences() -> set[str]:
    """Every sentence of the catalogue that the page shows in its language."""
    found = {option.summary for option in OPTIONS}
    for function in FUNCTIONS.values():
        found |= {function.summary, *(entry.summary for entry in function.inputs)}
        found |= {entry.summary for entry in function.parameters}
    return found


async def test_every_sentence_of_the_catalogue_is_translated() -> None:
    """The Chinese catalogue has each sentence of the catalogue, and no other; one that has changed is found here."""
    translated = json.loads((FOLDER / "catalogue.zh.json").read_text())

    assert {"missing": sorted(sentences() - set(translated)), "gone": sorted(set(translated) - sentences())} == {
        "missing": [],
        "gone": [],
    }
