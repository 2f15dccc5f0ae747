"""Writes service/matfn_service/page/real.json from demo/matrices.npz: real matrices of order 64 for the playground.

Each is a leading block, in float32 and base64; of a symmetric matrix the lower triangle by rows.
"""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Final

import numpy as np

ROOT: Final = Path(__file__).parent.parent
ORDER: Final = 64
TARGET: Final = ROOT / "service" / "matfn_service" / "page" / "real.json"


def main() -> None:
    """Writes the file."""
    demo = np.load(ROOT / "demo" / "matrices.npz", allow_pickle=False)
    keys, beta = demo["deltanet_keys"][0], demo["deltanet_beta"][0]
    triangle = np.eye(ORDER) + np.tril(beta[:, None] * (keys @ keys.T), -1)
    matrices = {
        "shampoo": (demo["shampoo_l_step20"], "symmetric"),
        "digits": (demo["digits_covariance"], "symmetric"),
        "fid": (demo["fid_cov_a"], "symmetric"),
        "momentum": (demo["momentum_q_step20"], "any"),
        "deltanet": (triangle, "triangular"),
    }
    entries = {name: {"kind": kind, "data": _packed(matrix, kind)} for name, (matrix, kind) in matrices.items()}
    TARGET.write_text(json.dumps({"order": ORDER, "matrices": entries}, indent=1) + "\n")


def _packed(matrix: np.ndarray, kind: str) -> str:
    block = np.asarray(matrix[:ORDER, :ORDER], np.float32)
    numbers = block if kind == "any" else block[np.tril_indices(ORDER)]
    return base64.b64encode(np.ascontiguousarray(numbers).tobytes()).decode()


if __name__ == "__main__":
    main()
