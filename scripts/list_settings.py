"""Prints the table of settings in docs/operations.md from the settings themselves; --check compares instead."""

from __future__ import annotations

import sys
from pathlib import Path

from matfn_service.settings import Settings

PAGE = Path(__file__).parents[1] / "docs" / "operations.md"
START, END = "<!-- settings: scripts/list_settings.py -->", "<!-- end of settings -->"


def table() -> str:
    """One line a setting: its variable, default and meaning."""
    lines = ["| variable | default | meaning |", "|---|---|---|"]
    for name, field in Settings.model_fields.items():
        default = "" if field.default_factory or field.default in {None, ()} else f"`{field.default}`"
        lines.append(f"| `MATFN_{name.upper()}` | {default} | {field.description} |")
    return "\n".join(lines)


def main() -> int:
    """Rewrites the page, or says that it is stale."""
    text = PAGE.read_text()
    head, rest = text.split(START)
    _, tail = rest.split(END)
    wanted = f"{head}{START}\n\n{table()}\n\n{END}{tail}"
    if "--check" in sys.argv[1:]:
        if text != wanted:
            print(f"{PAGE.name} is stale: run scripts/list_settings.py")
        return int(text != wanted)
    PAGE.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
