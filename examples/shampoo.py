"""A small language model trained by Shampoo, its inverse roots computed in three places: loss against steps.

    python examples/shampoo.py            # under two minutes; --plot shampoo.png draws the curves, with matplotlib
    python examples/shampoo.py --quick    # a few seconds, to see that it runs

    local       torch.linalg.eigh in float64, in the training step
    remote      a matfn server, waited for in the training step
    stale       a matfn server beside the training step, its roots used one interval later

The text is matfn's own documentation, the model a transformer that predicts its next character. MATFN_URL names a
server; without it the example starts one.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import sys
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional

import matfn
from matfn.optim import Shampoo

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from matfn.invocation import Invocation
    from matfn.optim.refresh import RefreshClient

ROOT = Path(__file__).parents[1]
CONTEXT, WIDTH, HEADS = 64, 64, 4
START_SECONDS = 120
SPLIT = 0.9  # of the text for training, the rest for the loss that is shown


@dataclass(frozen=True, slots=True)
class Size:
    """How long to train."""

    steps: int
    layers: int
    batch: int
    refresh_every: int
    shown_every: int


FULL = Size(steps=200, layers=2, batch=32, refresh_every=10, shown_every=20)
QUICK = Size(steps=12, layers=1, batch=8, refresh_every=3, shown_every=6)


class Layer(nn.Module):
    """Attention and a multilayer perceptron, each with a residual."""

    def __init__(self) -> None:
        super().__init__()
        self.before, self.between = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attend, self.project = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.think = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        """Activations, (batch, context, width)."""
        batch, length, width = x.shape
        q, k, v = self.attend(self.before(x)).view(batch, length, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.project(seen.transpose(1, 2).reshape(batch, length, width))
        thought: Tensor = self.think(self.between(x))
        return x + thought


class Model(nn.Module):
    """A transformer over characters."""

    def __init__(self, characters: int, layers: int) -> None:
        super().__init__()
        self.characters, self.places = nn.Embedding(characters, WIDTH), nn.Embedding(CONTEXT, WIDTH)
        self.layers = nn.Sequential(*(Layer() for _ in range(layers)))
        self.head = nn.Sequential(nn.LayerNorm(WIDTH), nn.Linear(WIDTH, characters, bias=False))

    def forward(self, text: Tensor, following: Tensor) -> Tensor:
        """The mean negative log-likelihood of the characters that follow, in nats."""
        logits = self.head(self.layers(self.characters(text) + self.places.weight[: text.shape[1]]))
        return functional.cross_entropy(logits.flatten(0, 1), following.flatten())


class EighClient:
    """Inverse roots by torch.linalg.eigh: the plain computation that the others are compared with."""

    @property
    def with_info(self) -> EighClient:
        """The functions with certificates, of which only inv_root is here, without."""
        return self

    def map(self, calls: Iterable[Invocation[Tensor]], *, on_error: str) -> list[Any]:  # noqa: ARG002
        """The answers; eigh fails as it does anywhere."""
        timing = matfn.Timing(0.0, 0.0, 1, 1.0)
        return [matfn.Answer(inverse_root(**call.arrays, **call.params), (), timing, "", "cpu") for call in calls]


def inverse_root(a: Tensor, r: int, damping: float, **_: object) -> Tensor:
    """(A + damping lambda_max I)^(-1/r)."""
    w, v = torch.linalg.eigh(a.double())  # in float32 LAPACK fails on some of these factors
    root: Tensor = (v * (w.clamp_min(0) + damping * w[-1]) ** (-1 / r)) @ v.mT
    return root.to(a.dtype)


@contextmanager
def server() -> Iterator[str]:
    """The URL of a server: that of MATFN_URL, or one of its own that ends with the example."""
    if url := os.environ.get("MATFN_URL"):
        yield url
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "matfn", "serve", "--port", str(port)]
    process = subprocess.Popen(command, env={**os.environ, "MATFN_LOG_LEVEL": "warning", "MATFN_WORKERS": "1"})  # noqa: S603
    try:
        wait_until_ready(f"http://127.0.0.1:{port}", process)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def wait_until_ready(url: str, process: subprocess.Popen[bytes]) -> None:
    """Returns when the server answers that it is ready."""
    start = time.monotonic()
    with matfn.Client(url, max_retries=0) as client:
        while process.poll() is None and time.monotonic() - start < START_SECONDS:
            with suppress(matfn.MatfnError):
                if client.status()["state"] == "ready":
                    return
            time.sleep(0.05)
    sys.exit(f"the server did not start within {START_SECONDS} s")


def corpus() -> Tensor:
    """The documentation as numbers of its characters."""
    text = "".join(page.read_text() for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))])
    known = {character: number for number, character in enumerate(sorted(set(text)))}
    return torch.tensor([known[character] for character in text])


def batches(text: Tensor, size: Size, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Pieces of the text, each with the same piece one character later."""
    generator = torch.Generator().manual_seed(seed)
    starts = torch.randint(len(text) - CONTEXT - 1, (count, size.batch), generator=generator)
    pieces = text[starts.unsqueeze(-1) + torch.arange(CONTEXT + 1)]
    return [(piece[:, :-1], piece[:, 1:]) for piece in pieces]


def train(client: RefreshClient, intervals: int, size: Size, seed: int) -> tuple[list[float], list[float]]:
    """Losses on text that was not trained on, and the seconds of each step, of roots that many intervals old."""
    torch.manual_seed(seed)
    text = corpus()
    split = int(SPLIT * len(text))
    model = Model(int(text.max()) + 1, size.layers)
    optimizer = Shampoo(
        model.parameters(),
        lr=2e-3,
        client=client,
        refresh_every=size.refresh_every,
        betas=(0.9, 0.99),
        max_staleness=(1 + intervals) * size.refresh_every,
        on_late="wait",
    )
    unseen, losses, seconds = batches(text[split:], size, 4, seed), [], []
    for step, piece in enumerate(batches(text[:split], size, size.steps, seed), 1):
        optimizer.zero_grad()
        model(*piece).backward()
        start = time.perf_counter()
        optimizer.step()
        seconds.append(time.perf_counter() - start)
        if step % size.shown_every == 0:
            with torch.no_grad():
                losses.append(sum(model(*one).item() for one in unseen) / len(unseen))
    return losses, seconds


def plot(curves: dict[str, list[float]], size: Size, path: str) -> None:
    """Draws loss against steps."""
    from matplotlib import pyplot as plt

    steps = range(size.shown_every, size.steps + 1, size.shown_every)
    for name, losses in curves.items():
        plt.plot(steps, losses, label=name, linestyle={"local": "-", "remote": "--", "stale": ":"}[name])
    plt.xlabel("step")
    plt.ylabel("loss on unseen text, nats per character")
    plt.legend()
    plt.savefig(path, dpi=150)


def main() -> None:
    """Trains three times and prints loss against steps, and what a step takes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few steps of a smaller model")
    parser.add_argument("--seed", type=int, default=0, help="of the model and the text's pieces")
    parser.add_argument("--plot", metavar="FILE", help="draw the losses")
    options = parser.parse_args()
    torch.set_num_threads(1)  # a server on this machine needs the other cores
    size = QUICK if options.quick else FULL
    with server() as url, matfn.Client(url) as client:
        runs: dict[str, tuple[RefreshClient, int]] = {
            "local": (EighClient(), 0),
            "remote": (client, 0),
            "stale": (client, 1),
        }
        results = {name: train(*run, size, options.seed) for name, run in runs.items()}
    print("step    " + "".join(f"{name:>9}" for name in results))
    for row in range(size.steps // size.shown_every):
        step = size.shown_every * (row + 1)
        print(f"{step:<8}" + "".join(f"{losses[row]:9.4f}" for losses, _ in results.values()))
    for words, of in (("median", median), ("longest", max)):
        print(f"{words:<8}" + "".join(f"{1e3 * of(seconds):6.1f} ms" for _, seconds in results.values()))
    if options.plot:
        plot({name: losses for name, (losses, _) in results.items()}, size, options.plot)


if __name__ == "__main__":
    main()
