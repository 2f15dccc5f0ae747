"""The workload behind mosec, msgpack in and out, one worker.

python benchmarks/servers/mosec_server.py PORT WORKLOAD
"""

from __future__ import annotations

import os
import sys
from typing import Final

import numpy as np
from mosec import Server, Worker
from mosec.mixin import MsgpackMixin
from workloads import MAX_BATCH, WORKLOADS

_WORKLOAD: Final = "BENCHMARK_WORKLOAD"
_WAIT_MS: Final = 1  # the shortest that it takes


class Device(MsgpackMixin, Worker):
    """Arrays as maps of shape and bytes."""

    def forward(self, data: list[dict]) -> list[dict]:
        """One batch."""
        inputs = [np.frombuffer(item["data"], np.float32).reshape(item["shape"]) for item in data]
        outputs = WORKLOADS[os.environ[_WORKLOAD]](np.stack(inputs))
        return [{"shape": output.shape, "data": output.tobytes()} for output in outputs]


def main(port: str, workload: str) -> None:
    """Serves until it is told to stop."""
    os.environ[_WORKLOAD] = workload
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "error"]
    server = Server()
    server.append_worker(Device, num=1, max_batch_size=MAX_BATCH, max_wait_time=_WAIT_MS)
    server.run()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
