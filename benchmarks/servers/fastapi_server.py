"""The workload behind a plain FastAPI route in its thread pool, raw bytes in and out: no batching at all.

python benchmarks/servers/fastapi_server.py PORT WORKLOAD
"""

from __future__ import annotations

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from starlette.concurrency import run_in_threadpool
from workloads import WORKLOADS


def create_app(workload: str) -> FastAPI:
    """An application with one route."""
    app = FastAPI()
    compute = WORKLOADS[workload]

    @app.post("/compute")
    async def endpoint(request: Request) -> Response:
        flat = np.frombuffer(await request.body(), np.float32)
        matrix = flat.reshape(1, round(flat.size**0.5), -1)
        output = await run_in_threadpool(compute, matrix)
        return Response(output.tobytes(), media_type="application/octet-stream")

    return app


def main(port: str, workload: str) -> None:
    """Serves until it is told to stop."""
    uvicorn.run(create_app(workload), host="127.0.0.1", port=int(port), log_level="error", access_log=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
