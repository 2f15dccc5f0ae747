"""An answer as JSON for other programs: `matfn run --json`."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from matfn.answers import Answer

__all__ = ["answer_json"]


def answer_json(function: str, answer: Answer[Any], outputs: Mapping[str, Any], files: Mapping[str, Path]) -> str:
    """One line of JSON: outputs as nested lists or the files that hold them, certificates and timing.

    A complex number is [real part, imaginary part]; a number that is not finite is null.
    """
    document = {
        "function": function,
        "outputs": {
            name: {"dtype": str(value.dtype), "shape": list(value.shape), **_content(value, files.get(name))}
            for name, value in outputs.items()
        },
        "certificates": [_finite(asdict(certificate)) for certificate in answer.certificates],
        "timing": asdict(answer.timing),
        "device": answer.device,
        "request_id": answer.request_id,
    }
    return json.dumps(document, allow_nan=False)


def _content(value: Any, file: Path | None) -> dict[str, Any]:
    if file is not None:
        return {"file": str(file)}
    parts = np.stack([value.real, value.imag], axis=-1) if np.iscomplexobj(value) else value
    return {"data": _finite(parts.tolist())}


def _finite(value: Any) -> Any:
    """The value with null for each number that JSON does not have."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list | tuple) else value
