"""Records a hash of every program's answers and certificates, and compares with an earlier record.

A refactoring changes no number: record before it, compare after it, on one machine.

    python scripts/record_answers.py before.txt                    # a line for each combination, about five minutes
    python scripts/record_answers.py after.txt --compare before.txt
"""

from __future__ import annotations

import argparse
import sys
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))

import torch

from bit_cases import KINDS
from matfn_kernels import Profile
from same_answers import Combination, combinations

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_DIGITS = 16


def recorded(combination: Combination) -> str:
    """Hash of the answers to one matrix of each kind, their certificates, and the program's price."""
    found = sha256(combination.program.seconds(Profile.nominal()).hex().encode())
    for row in combination.rows(KINDS):
        for name, output in row.outputs.items():
            found.update(name.encode() + output)
        for name, value in row.certificate.items():
            found.update(f"{name}={value};".encode())
    return found.hexdigest()[:_DIGITS]


def record(*, brief: bool) -> Iterator[tuple[str, str]]:
    """(name, hash) of every combination of function, method, dtype, kernel and order."""
    for combination in combinations(brief=brief):
        yield combination.name, recorded(combination)


def changes(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """Names of combinations whose hashes differ, or that only one record has."""
    return sorted(name for name in before.keys() | after.keys() if before.get(name) != after.get(name))


def read(path: Path) -> dict[str, str]:
    """A record by name."""
    return dict(line.rsplit(" ", 1) for line in path.read_text().splitlines())


def main() -> int:
    """Writes the record; 1 if it differs from the earlier one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("record", type=Path, help="file to write")
    parser.add_argument("--compare", type=Path, help="an earlier record")
    parser.add_argument("--brief", action="store_true", help="only the combinations of the tests")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    found = dict(record(brief=asked.brief))
    asked.record.write_text("".join(f"{name} {digest}\n" for name, digest in found.items()))
    print(f"{len(found)} combinations recorded")
    if asked.compare is None:
        return 0
    changed = changes(read(asked.compare), found)
    print(f"{len(changed)} differ", *changed, sep="\n  ")
    return int(bool(changed))


if __name__ == "__main__":
    sys.exit(main())
