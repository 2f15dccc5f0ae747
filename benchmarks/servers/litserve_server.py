"""The workload behind LitServe, raw bytes in and out, one worker.

LitServe reads JSON and forms; a FastAPI dependency gives it the body as it came, which is faster than either. It finds
the dependency in the annotation itself, which therefore must not be put off to a string.

    python benchmarks/servers/litserve_server.py PORT WORKLOAD
"""

import sys
from typing import Annotated

import litserve
import numpy as np
from fastapi import Depends, Request, Response
from workloads import MAX_BATCH, WORKLOADS


async def octets(request: Request) -> bytes:
    """The body of a request."""
    return await request.body()


class Device(litserve.LitAPI):
    """Arrays as bytes; their order follows from their length."""

    def __init__(self, workload: str) -> None:
        super().__init__(max_batch_size=MAX_BATCH, batch_timeout=0.0)
        self._workload = workload

    def setup(self, device: str) -> None:
        """Finds the workload in the worker's own process."""
        del device
        self._compute = WORKLOADS[self._workload]

    def decode_request(self, request: Annotated[bytes, Depends(octets)]) -> np.ndarray:
        """An array over the body."""
        flat = np.frombuffer(request, np.float32)
        return flat.reshape(round(flat.size**0.5), -1)

    def batch(self, inputs: list[np.ndarray]) -> np.ndarray:
        """One array of all."""
        return np.stack(inputs)

    def predict(self, batch: np.ndarray) -> np.ndarray:
        """One batch."""
        return self._compute(batch)

    def unbatch(self, output: np.ndarray) -> list[np.ndarray]:
        """One array for each caller."""
        return list(output)

    def encode_response(self, output: np.ndarray) -> Response:
        """The array's bytes."""
        return Response(output.tobytes(), media_type="application/octet-stream")


def main(port: str, workload: str) -> None:
    """Serves until it is told to stop."""
    server = litserve.LitServer(Device(workload), accelerator="cpu", fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), num_api_servers=1, log_level="error", generate_client_file=False)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
