"""The command `matfn serve`: restarts the process so that malloc keeps its pages, then runs the server.

Nothing heavy is imported before the process has been started again.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ENVIRONMENT", "keep_compiled", "main", "settle_environment"]

_GIB: Final = 2**30
ENVIRONMENT: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(_GIB),
    "MALLOC_TRIM_THRESHOLD_": str(8 * _GIB),
    "MALLOC_TOP_PAD_": str(_GIB // 8),
    "OPENBLAS_NUM_THREADS": "1",  # scipy brings its own, which would spin beside the workers
}
_STARTED_AGAIN: Final = "MATFN_STARTED_AGAIN"


def main(host: str | None = None, port: int | None = None, device: str | None = None, uds: str | None = None) -> int:
    """Serves in the foreground until SIGTERM or SIGINT; returns the exit code, 0 after a drain.

    Arguments win over the environment. Each invalid setting is one line on standard error, with exit code 1.

    Raises:
        ImportError: if a package of the extra `service` is missing.
    """
    settle_environment()
    from matfn_service.configuration import Misconfigured, configured
    from matfn_service.server import serve

    given = {"host": host, "port": port, "device": device, "uds": uds}
    try:
        settings = configured({name: value for name, value in given.items() if value is not None})
    except Misconfigured as error:
        sys.stderr.writelines(f"matfn serve: {fault}\n" for fault in error.faults)
        return 1
    keep_compiled(settings.cache_dir)
    return serve(settings)


def keep_compiled(cache_dir: Path | None) -> None:
    """Makes Triton keep compiled kernels in this folder; containers may not write its default, the home."""
    if cache_dir is not None:
        os.environ.setdefault("TRITON_CACHE_DIR", str(cache_dir / "triton"))


def settle_environment() -> None:
    """Restarts the process with one BLAS thread and with freed pages kept, since new pages cost more than copies."""
    missing = {name: value for name, value in ENVIRONMENT.items() if name not in os.environ}
    if sys.platform != "linux" or _STARTED_AGAIN in os.environ or not missing:
        return
    environment = {**os.environ, **missing, _STARTED_AGAIN: "1"}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)  # noqa: S606 - our own command line
