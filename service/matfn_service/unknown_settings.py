"""Variables of the environment that look like settings and are none: a misspelt one would be ignored in silence."""

from __future__ import annotations

import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Final

from matfn_service.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["unknown_settings"]

_PREFIX: Final = "MATFN_"
_SETTINGS: Final = tuple(name.upper() for name in Settings.model_fields)
_OTHERS: Final = frozenset(
    {
        "URL",  # of clients
        "API_KEY",
        "STARTED_AGAIN",  # of the process itself
    }
)
_LINK: Final = re.compile(r"_(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT_\d+_(TCP|UDP|SCTP)(_(ADDR|PORT|PROTO))?)")
_LINK_VALUE: Final = re.compile(r"(tcp|udp|sctp)://")


def unknown_settings(environment: Mapping[str, str]) -> Iterator[str]:
    """A line for each variable named like a setting that there is not, with the nearest one; values are not told."""
    for name, value in sorted(environment.items()):
        setting = name.upper().removeprefix(_PREFIX)
        if setting == name.upper() or not value or setting in _SETTINGS or setting in _OTHERS:
            continue
        if not _is_link(setting, value):
            yield f"{name}: there is no such setting; {_advice(setting)}"


def _is_link(setting: str, value: str) -> bool:
    """Whether Kubernetes tells by this variable where a Service is, one whose name begins with `matfn-`."""
    return _LINK.search(setting) is not None or (setting.endswith("_PORT") and _LINK_VALUE.match(value) is not None)


def _advice(setting: str) -> str:
    nearest = get_close_matches(setting, _SETTINGS, n=1)
    return f"the nearest is {_PREFIX}{nearest[0]}" if nearest else "docs/operations.md lists the settings"
