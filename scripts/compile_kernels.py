"""Compiles every Triton kernel for GPUs that need not be there, and tabulates what the binaries use.

Arguments are specialised as a launch would: pointers and sizes divisible by 16, a stride of 1 as a constant.

    python scripts/compile_kernels.py > benchmarks/results/kernels.md
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch
import triton
from triton.backends import nvidia
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from matfn_kernels.linalg.kernel_choice import state
from matfn_kernels.linalg.triton import iteration as triton_small
from matfn_kernels.linalg.triton import products as triton_products
from matfn_kernels.linalg.triton.types import NAMES, TYPES

if TYPE_CHECKING:
    from collections.abc import Iterator

CAPABILITIES: Final = (80, 90)
ROOTS: Final = (2, 4)
DTYPES: Final = (torch.float32, torch.bfloat16, torch.float64)
_ALIGNED: Final = [["tt.divisibility", 16]]
_TOOLS: Final = Path(nvidia.__file__).parent / "bin"
_TENSOR_CORES: Final = {"mma": r"\b[HD]MMA\.", "wgmma": r"\b[QHI]GMMA\."}
_WORKERS: Final = 2


@dataclass(frozen=True, slots=True)
class Case:
    """A kernel as one launch would have it.

    Attributes:
        name: of the kernel and what distinguishes this case.
        kernel: the function.
        dtype: of the matrices.
        constants: what it is compiled for.
        options: warps and stages.
    """

    name: str
    kernel: Any
    dtype: torch.dtype
    constants: dict[str, Any]
    options: dict[str, Any]

    def source(self) -> ASTSource:
        """The kernel with types and specialisations of its arguments."""
        names = self.kernel.arg_names
        signature = {name: "constexpr" if name in self.constants else self._type(name) for name in names}
        aligned = {
            (place,): _ALIGNED
            for place, name in enumerate(names)
            if signature[name] != "constexpr" and ("*" in signature[name] or _is_size(name))
        }
        return ASTSource(self.kernel, signature, self.constants, aligned)

    def _type(self, name: str) -> str:
        if name == "orders_ptr":
            return "*i32"
        if name in {"scratch_ptr", "table_ptr"}:
            return "*" + NAMES[state(self.dtype)]
        return "*" + NAMES[self.dtype] if name.endswith("_ptr") else "i32"


def _is_size(name: str) -> bool:
    """Whether a number is that of rows, columns or entries of a matrix."""
    return name in {"slot", "width", "order", "inner", "g_item", "t_item"} or name[:2] in {"x_", "y_"}


def cases() -> Iterator[Case]:
    """Every kernel in every dtype that it is launched with."""
    for dtype in DTYPES:
        iteration, options = _split(triton_small.constants(dtype))
        for r in ROOTS:
            yield Case(f"coupled r={r}", triton_small.coupled_kernel, dtype, iteration | {"R": r, "S": 1}, options)
        yield Case("plain", triton_small.plain_kernel, dtype, iteration, options)
        yield _symmetric("gram", dtype, {"x_row": 1, "y_column": 1, "HAS_POLYNOMIAL": False})
        yield _symmetric("quadratic", dtype, {"x_column": 1, "y_column": 1, "HAS_POLYNOMIAL": True})
        if dtype != torch.bfloat16:
            for block in (32, 64):
                yield Case(
                    f"leaf {block}",
                    triton_small.leaf_kernel,
                    dtype,
                    {"BLOCK": block, "t_column": 1},
                    {"num_warps": triton_small.LEAF_WARPS, "enable_fp_fusion": True},
                )


def _symmetric(name: str, dtype: torch.dtype, known: dict[str, Any]) -> Case:
    shape = triton_products.shape_for(4096, dtype)
    constants, options = _split(triton_products.constants(dtype, shape, TYPES[dtype]))
    return Case(
        f"{name} {shape.block}x{shape.block}x{shape.depth}",
        triton_products.symmetric_kernel,
        dtype,
        constants | known,
        options,
    )


def _split(settings: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Constants of the kernel, in capitals, and options of the compiler."""
    constants = {name: value for name, value in settings.items() if name.isupper()}
    return constants, {name: value for name, value in settings.items() if not name.isupper()}


def row(case: Case, capability: int) -> str:
    """Compiles one case and reads its binary."""
    binary = triton.compile(case.source(), target=GPUTarget("cuda", capability, 32), options=case.options)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        usage = _tool("cuobjdump", "-res-usage", file.name)
        assembly = _tool("nvdisasm", "-c", file.name)
    registers, stack = re.search(r"REG:(\d+) STACK:(\d+)", usage).groups()  # type: ignore[union-attr]
    spills = len(re.findall(r"\b(?:STL|LDL)\b", assembly))
    tensor_cores = ", ".join(
        f"{count} {name}" for name, pattern in _TENSOR_CORES.items() if (count := len(re.findall(pattern, assembly)))
    )
    cells = (
        case.name,
        NAMES[case.dtype],
        f"sm_{capability}",
        str(case.options["num_warps"]),
        registers,
        stack,
        str(spills),
        f"{binary.metadata.shared / 1024:g}",
        tensor_cores or "none",
    )
    return f"| {' | '.join(cells)} |"


def _tool(name: str, *arguments: str) -> str:
    return subprocess.run([str(_TOOLS / name), *arguments], check=True, capture_output=True, text=True).stdout


def main() -> None:
    """Prints the table."""
    sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))
    from provenance import provenance

    print(f"{provenance('none, compiled only')}\n")
    print(f"Compiled by Triton {triton.__version__} without a GPU; nothing here was run.\n")
    print("Spills: instructions that read or write registers kept in memory. Tensor cores: instructions in the code.\n")
    print("| kernel | dtype | target | warps | registers | stack, B | spills | shared, KiB | tensor cores |")
    print("|---|---|---|---|---|---|---|---|---|")
    everything = [(case, capability) for capability in CAPABILITIES for case in cases()]
    with ThreadPoolExecutor(_WORKERS) as threads:
        for line in threads.map(lambda pair: row(*pair), everything):
            print(line)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
