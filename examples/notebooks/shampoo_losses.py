# %% [markdown]
# # Shampoo with roots from elsewhere
#
# A small language model is trained by Shampoo three times for each of three seeds. Its inverse roots come from
# `torch.linalg.eigh` in the training step (local), from a matfn server that the step waits for (remote), or from the
# server beside the training, one interval late (stale).

# %%
import sys
from pathlib import Path

import numpy as np
import torch
from matplotlib import pyplot as plt

import matfn

sys.path.insert(0, str(Path.cwd().parent))
from shampoo import FULL, EighClient, server, train

SEEDS = (0, 1, 2)
torch.set_num_threads(1)
losses, seconds = {}, {}
with server() as url, matfn.Client(url) as client:
    for seed in SEEDS:
        for name, run in {"local": (EighClient(), 0), "remote": (client, 0), "stale": (client, 1)}.items():
            losses[name, seed], seconds[name, seed] = train(*run, FULL, seed)

# %% [markdown]
# Loss on text that was not trained on. The three curves of a seed lie together; seeds differ by more.

# %%
steps = range(FULL.shown_every, FULL.steps + 1, FULL.shown_every)
styles = {"local": "-", "remote": "--", "stale": ":"}
for (name, seed), curve in losses.items():
    plt.plot(steps, curve, styles[name], color=f"C{seed}", label=f"{name}, seed {seed}")
plt.xlabel("step")
plt.ylabel("loss on unseen text, nats per character")
plt.legend(ncol=3, fontsize="small")
plt.show()

# %% [markdown]
# The last losses, and their differences from the local ones of the same seed.

# %%
for name in styles:
    last = np.array([losses[name, seed][-1] for seed in SEEDS])
    local = np.array([losses["local", seed][-1] for seed in SEEDS])
    print(f"{name:7} {last.round(4)}  difference {(last - local).round(4)}")

# %% [markdown]
# What `optimizer.step()` takes. With roots one interval late no step waits for a decomposition, but the first refresh.

# %%
for name, style in styles.items():
    taken = 1e3 * np.concatenate([seconds[name, seed] for seed in SEEDS])
    plt.plot(np.sort(taken), np.linspace(0, 1, len(taken)), style, label=name)
plt.xscale("log")
plt.xlabel("milliseconds of a step")
plt.ylabel("share of steps")
plt.legend()
plt.show()
