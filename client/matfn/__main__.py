"""The console script `matfn`, and `python -m matfn`: the command line, or what to install for it."""

from __future__ import annotations

import sys

__all__ = ["main"]


def main() -> None:
    """Runs the command line; without the extra `cli`, which `service` includes, it says so with exit code 1."""
    try:
        from matfn import cli
    except ModuleNotFoundError as error:
        extra = "service" if sys.argv[1:2] == ["serve"] else "cli"
        sys.exit(f'the command line is not installed: {error.name} is missing\nhint: pip install "matfn[{extra}]"')
    cli.main()


if __name__ == "__main__":
    main()
