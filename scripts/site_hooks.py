"""Hooks of mkdocs.yml: files outside docs/ to which pages link, the lists in the navigation, and no other server.

The pages link to each other, to tables of results and to sources by relative paths, as GitHub wants them. The site has
the files that lie outside docs/ below `repository/`, and the links of its pages are changed accordingly.
"""

from __future__ import annotations

import re
from pathlib import Path
from posixpath import normpath, relpath
from typing import TYPE_CHECKING, Any, Final

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

import site_archive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mkdocs.config.defaults import MkDocsConfig
    from mkdocs.structure.pages import Page

ROOT: Final = Path(__file__).parents[1]
OUTSIDE: Final = "repository"
LISTS: Final = {"Functions": "functions", "Decisions": "decisions"}
"""Sections of the navigation that hold every page of a folder, after the folder's index."""

_LINK: Final = re.compile(r"(?<=\]\()(?P<path>[^)#:\s]+)(?P<anchor>#[^)\s]*)?(?=\))")
_FOREIGN: Final = re.compile(
    r'<(?:script|img|iframe|source)\b[^>]*\bsrc="(?:https?:)?//|<link\b[^>]*\bhref="(?:https?:)?//'
)


def on_config(config: MkDocsConfig) -> None:
    """Completes the sections of `LISTS`."""
    for section in config.nav or []:
        for title, folder in LISTS.items():
            if title in section:
                names = sorted(path.name for path in (ROOT / "docs" / folder).glob("*.md"))
                pages = [name for name in names if name not in {"index.md", "README.md"}]
                section[title] += [_entry(folder, name) for name in pages]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds the files outside docs/ to which a page of the site links, and those to which they link in turn."""
    waiting = ["CHANGELOG.md"]
    waiting += [target for file in files.documentation_pages() for target in _outside(_source(file.src_uri))]
    added: set[str] = set()
    while waiting:
        target = waiting.pop()
        if target not in added:
            added.add(target)
            files.append(File.generated(config, f"{OUTSIDE}/{target}", abs_src_path=str(ROOT / target)))
            waiting += _outside(target) if target.endswith(".md") else []
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Changes links to and from files outside docs/; a link from outside to a page of the site leads to that page.

    A page without sections has no table of contents beside it.
    """
    del config
    if "\n## " not in markdown:
        page.meta["hide"] = ["toc"]
    source = _source(page.file.src_uri)

    def changed(link: re.Match[str]) -> str:
        target = normpath(f"{source}/../{link['path']}")
        place = _place(target)
        if files.get_file_from_path(place) is None:
            return link[0]
        return relpath(place, f"{page.file.src_uri}/..") + (link["anchor"] or "")

    return _LINK.sub(changed, markdown)


def on_post_build(config: MkDocsConfig) -> None:
    """Refuses a site that loads anything from elsewhere, and packs it for the service."""
    pages = sorted(Path(config.site_dir).rglob("*.html"))
    if foreign := [str(page) for page in pages if _FOREIGN.search(page.read_text())]:
        raise PluginError(f"pages that load files from other servers: {', '.join(foreign)}")
    site_archive.pack(Path(config.site_dir))


def _entry(folder: str, name: str) -> str | dict[str, str]:
    """A page's entry in the navigation: functions by their names, others by their titles."""
    path = f"{folder}/{name}"
    return {name.removesuffix(".md"): path} if folder == "functions" else path


def _source(src_uri: str) -> str:
    """The path in the repository of a file of the site."""
    return src_uri.removeprefix(f"{OUTSIDE}/") if src_uri.startswith(f"{OUTSIDE}/") else f"docs/{src_uri}"


def _place(path: str) -> str:
    """The path in the site of a file of the repository."""
    return path.removeprefix("docs/") if path.startswith("docs/") else f"{OUTSIDE}/{path}"


def _outside(source: str) -> Iterator[str]:
    """Files of the repository outside docs/ to which a page of it links."""
    for link in _LINK.finditer((ROOT / source).read_text()):
        target = normpath(f"{source}/../{link['path']}")
        if not target.startswith(("docs/", "../")) and (ROOT / target).is_file():
            yield target


__all__: list[Any] = ["on_config", "on_files", "on_page_markdown", "on_post_build"]
