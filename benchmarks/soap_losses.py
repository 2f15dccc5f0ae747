"""Losses of SOAP whose eigenbases come from a server, at once or one interval old, against those of plain SOAP.

All train the model of examples/shampoo.py on the project's own documentation, from the same seeds and on the same
pieces of text. Plain SOAP is written out below after the paper (arXiv 2409.11321, algorithms 3 and 4): in this process,
with torch.linalg alone, its first bases by eigh and the others by one step of orthogonal iteration.

    python benchmarks/soap_losses.py > benchmarks/results/soap.md
"""

from __future__ import annotations

import statistics
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import torch

import matfn
from matfn.optim import SOAP
from provenance import provenance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import Tensor

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

import shampoo as example

SEEDS: Final = (0, 1, 2)
LR: Final = 3e-3
BETA: Final = 0.95
EPS: Final = 1e-8
_SIZE: Final = example.FULL


@dataclass(slots=True)
class Matrix:
    """A parameter with at least two dimensions, its factors, their bases and its moments."""

    parameter: Tensor
    factors: list[Tensor] = field(default_factory=list)
    bases: list[Tensor] = field(default_factory=list)
    mean: Tensor = field(init=False)
    squares: Tensor = field(init=False)
    moves: int = 0

    def __post_init__(self) -> None:
        self.mean, self.squares = torch.zeros_like(self.parameter), torch.zeros_like(self.parameter)
        self.factors = [torch.zeros(n, n) for n in self.parameter.shape]

    def step(self, gradient: Tensor, *, refreshes: bool) -> None:
        """Moves in the bases in use, and then counts the gradient in; the first gradient moves nothing."""
        if self.bases:
            self._move(gradient)
        for factor, product in zip(self.factors, (gradient @ gradient.mT, gradient.mT @ gradient), strict=True):
            factor.lerp_(product, 1 - BETA)
        if not self.bases:
            self.bases = [torch.linalg.eigh(factor).eigenvectors.flip(-1) for factor in self.factors]
        elif refreshes:
            self._iterate()

    def _move(self, gradient: Tensor) -> None:
        left, right = self.bases
        self.moves += 1
        correction = 1 - BETA**self.moves
        self.mean.lerp_(gradient, 1 - BETA)
        self.squares.lerp_((left.mT @ gradient @ right).square(), 1 - BETA)
        own = (left.mT @ self.mean @ right) / correction / ((self.squares / correction).sqrt() + EPS)
        self.parameter.sub_(left @ own @ right.mT, alpha=LR)

    def _iterate(self) -> None:
        """One step of orthogonal iteration, columns by descending estimates of their eigenvalues."""
        for side, (factor, basis) in enumerate(zip(self.factors, self.bases, strict=True)):
            order = (basis * (factor @ basis)).sum(0).argsort(descending=True)
            self.squares = self.squares.index_select(side, order)
            self.bases[side] = torch.linalg.qr(factor @ basis[:, order]).Q


class PlainSoap:
    """SOAP in this process, with torch.linalg alone; vectors take the steps of Adam."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        given = list(parameters)
        self._matrices = [Matrix(one.detach()) for one in given if one.dim() > 1]
        self._given = [one for one in given if one.dim() > 1]
        self._adam = torch.optim.Adam([one for one in given if one.dim() < 2], LR, (BETA, BETA), EPS)  # noqa: PLR2004
        self._steps = 0

    def zero_grad(self) -> None:
        """Drops the gradients."""
        for one in self._given:
            one.grad = None
        self._adam.zero_grad()

    def step(self) -> None:
        """Moves every parameter."""
        self._steps += 1
        for matrix, one in zip(self._matrices, self._given, strict=True):
            if one.grad is not None:
                matrix.step(one.grad, refreshes=self._steps % _SIZE.refresh_every == 1)
        self._adam.step()


def losses(optimizer_of: Callable[[Iterable[Tensor]], Any], seed: int) -> list[float]:
    """Losses on text that was not trained on, every `shown_every` steps."""
    torch.manual_seed(seed)
    text = example.corpus()
    split = int(example.SPLIT * len(text))
    model = example.Model(int(text.max()) + 1, _SIZE.layers)
    optimizer = optimizer_of(model.parameters())
    unseen, found = example.batches(text[split:], _SIZE, 4, seed), []
    for step, piece in enumerate(example.batches(text[:split], _SIZE, _SIZE.steps, seed), 1):
        optimizer.zero_grad()
        model(*piece).backward()
        optimizer.step()
        if step % _SIZE.shown_every == 0:
            with torch.no_grad():
                found.append(sum(model(*one).item() for one in unseen) / len(unseen))
    return found


def remote(client: matfn.Client, intervals: int) -> Callable[[Iterable[Tensor]], SOAP]:
    """SOAP with bases of a client that are this many intervals old."""
    staleness = (1 + intervals) * _SIZE.refresh_every

    def optimizer(parameters: Iterable[Tensor]) -> SOAP:
        return SOAP(
            parameters,
            LR,
            client,
            _SIZE.refresh_every,
            betas=(BETA, BETA),
            eps=EPS,
            weight_decay=0.0,
            max_staleness=staleness,
            on_late="wait",
        )

    return optimizer


def report(results: dict[str, list[list[float]]]) -> str:
    """Losses at the end by seed, and their means on the way."""
    lines = ["| | " + " | ".join(results) + " |", "|---|" + "---|" * len(results)]
    for row, seed in enumerate(SEEDS):
        cells = " | ".join(f"{curves[row][-1]:.4f}" for curves in results.values())
        lines.append(f"| seed {seed}, step {_SIZE.steps} | {cells} |")
    for place in range(1, _SIZE.steps // _SIZE.shown_every, 2):
        means = (statistics.fmean(curve[place] for curve in curves) for curves in results.values())
        lines.append(f"| mean, step {(place + 1) * _SIZE.shown_every} | {' | '.join(f'{one:.4f}' for one in means)} |")
    return "\n".join(lines)


def main() -> None:
    """Trains with every optimizer from every seed, and prints the losses."""
    torch.set_num_threads(1)
    results: dict[str, list[list[float]]] = {"plain SOAP": [losses(PlainSoap, seed) for seed in SEEDS]}
    with example.server() as url, matfn.Client(url) as client:
        for name, intervals in (("from a server", 0), ("from a server, one interval old", 1)):
            results[name] = [losses(remote(client, intervals), seed) for seed in SEEDS]
    print("# Losses of SOAP with eigenbases from a server\n")
    print(provenance() + "\n")
    print(
        f"Loss on unseen text, nats a character; {_SIZE.steps} steps, bases every {_SIZE.refresh_every}, lr {LR}, "
        f"betas {BETA}, no decay of weights; the model and text of examples/shampoo.py.\n"
    )
    print(report(results))


if __name__ == "__main__":
    main()
