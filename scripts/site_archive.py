"""Packs the documentation site into the archive that the service serves at /docs/: called by scripts/site_hooks.py.

Texts are compressed here, so that the service only sends them. The archive of the same pages has the same bytes.
"""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Final
from zipfile import ZIP_STORED, ZipFile, ZipInfo

__all__ = ["ARCHIVE", "pack"]

ARCHIVE: Final = Path(__file__).parents[1] / "service" / "matfn_service" / "site.zip"
_COMPRESSED: Final = {".html", ".js", ".css", ".json", ".svg", ".py", ".ipynb"}
_LEFT_OUT: Final = {"404.html", "sitemap.xml", "sitemap.xml.gz"}
"""For servers of files; the service has its own answer to what is not there."""
_LEFT_OUT_ENDINGS: Final = (".map",)


def pack(site: Path, archive: Path = ARCHIVE) -> None:
    """Writes the archive of a site's folder."""
    with ZipFile(archive, "w", ZIP_STORED) as packed:
        for path in sorted(path for path in site.rglob("*") if path.is_file()):
            name = path.relative_to(site).as_posix()
            if name not in _LEFT_OUT and not name.endswith(_LEFT_OUT_ENDINGS):
                packed.writestr(*_entry(name, path))


def _entry(name: str, path: Path) -> tuple[ZipInfo, bytes]:
    """A file under its name, or compressed; its time is that of all archives."""
    if path.suffix in _COMPRESSED:
        return ZipInfo(f"{name}.gz"), gzip.compress(path.read_bytes(), 9, mtime=0)
    return ZipInfo(name), path.read_bytes()
