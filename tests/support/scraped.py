"""What GET /metrics says, as plain numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["DOCKER", "documented", "moved", "samples"]

DOCKER: Final = Path(__file__).parents[2] / "docker"
_MANUAL: Final = Path(__file__).parents[2] / "docs" / "operations.md"
_COUNTED: Final = re.compile(r"matfn_(?!loop_lag)")
_TABLE_ROW: Final = re.compile(r"^\| `((?:matfn|process)_\w+)`", re.MULTILINE)


def samples(exposition: str) -> dict[str, float]:
    """Every sample by its name and sorted labels, such as `matfn_drops_total{reason="busy"}`."""
    families = text_string_to_metric_families(exposition)
    return {_series(sample.name, sample.labels): sample.value for family in families for sample in family.samples}


def _series(name: str, labels: dict[str, str]) -> str:
    inside = ",".join(f'{label}="{value}"' for label, value in sorted(labels.items()))
    return f"{name}{{{inside}}}" if inside else name


def moved(before: dict[str, float], after: dict[str, float]) -> dict[str, float]:
    """What samples have changed by; buckets, the loop's lag, and what the process itself uses, are left out."""
    kept = (series for series in after if _COUNTED.match(series) and "_bucket{" not in series)
    changes = {series: after[series] - before.get(series, 0.0) for series in kept}
    return {series: change for series, change in changes.items() if change}


def documented() -> set[str]:
    """The metrics of the operations manual."""
    return set(_TABLE_ROW.findall(_MANUAL.read_text()))
