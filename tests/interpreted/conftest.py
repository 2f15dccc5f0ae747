"""Tests of Triton kernels on its interpreter, which has to be chosen before Triton is imported.

They run in a process of their own (`tests/kernels/test_triton.py`), so that no other test sees the interpreter.
"""

from __future__ import annotations

import os

collect_ignore_glob = [] if os.environ.get("TRITON_INTERPRET") == "1" else ["test_*.py"]
