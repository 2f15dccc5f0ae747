"""Inverse roots by torch.linalg.eigh behind a plain FastAPI route: raw float32 bytes in and out, one matrix a core.

python benchmarks/servers/eigh_server.py PORT_OR_SOCKET WORKLOAD

The workload is not read: there is one.
"""

from __future__ import annotations

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import torch
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool


def create_app() -> FastAPI:
    """An application with one route."""
    app, pool = FastAPI(), ThreadPoolExecutor(len(os.sched_getaffinity(0)))

    @app.post("/inv_root")
    async def endpoint(request: Request, order: int, r: int, damping: float) -> Response:
        matrices = torch.frombuffer(bytearray(await request.body()), dtype=torch.float32).reshape(-1, order, order)

        def root(a: torch.Tensor) -> torch.Tensor:
            w, v = torch.linalg.eigh(a.double())
            return ((v * (w + damping * w[-1]).pow(-1 / r)) @ v.mT).float()

        found = await run_in_threadpool(lambda: torch.stack(list(pool.map(root, matrices))))
        return Response(found.numpy().tobytes(), media_type="application/octet-stream")

    return app


def main(place: str) -> None:
    """Serves until it is told to stop."""
    torch.set_num_threads(1)
    where = {"host": "127.0.0.1", "port": int(place)} if place.isdigit() else {"uds": place}
    uvicorn.run(create_app(), **where, log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1])
