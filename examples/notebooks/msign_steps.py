# %% [markdown]
# # Where Newton-Schulz moves singular values
#
# `msign` is the polar factor: it sets every singular value of a matrix to 1. Muon approximates it by five steps of one
# polynomial. matfn computes it to the accuracy that is asked for, by coefficients that are optimal for each step or by
# a decomposition, whichever takes less time.

# %%
import numpy as np
from matplotlib import pyplot as plt

import matfn

MUON = (3.4445, -4.7750, 2.0315)
client = matfn.LocalClient()

# %% [markdown]
# A matrix of order 200 whose singular values lie between 0.001 and 1, and its singular values after each step.

# %%
rng = np.random.default_rng(0)
u, v = (np.linalg.qr(rng.standard_normal((200, 200)))[0] for _ in range(2))
m = (u * np.logspace(0, -3, 200)) @ v.T

fig, axes = plt.subplots(1, 2, figsize=(11, 4), sharey=True)
for steps in range(1, 6):
    x = client.with_info.msign(m, coefficients=(MUON,) * steps).value
    axes[0].plot(np.linalg.svd(x, compute_uv=False), label=f"{steps} of Muon's steps")
answer = client.with_info.msign(m)
axes[1].plot(np.linalg.svd(answer.value, compute_uv=False), label=f"msign: {answer.certificates[0].method}")
for axis in axes:
    axis.plot(np.linalg.svd(m, compute_uv=False), color="grey", linestyle=":", label="before")
    axis.set(xlabel="number of the singular value", yscale="log")
    axis.legend()
axes[0].set_ylabel("singular value")
plt.show()

# %% [markdown]
# The certificate of the second answer: its error estimate, and what it was computed with.

# %%
answer.certificates[0]

# %% [markdown]
# The estimate against the true error, for matrices of growing condition.

# %%
conditions = np.logspace(1, 12, 12)
estimates, errors = [], []
for condition in conditions:
    spectrum = np.logspace(0, -np.log10(condition), 200)
    answer = client.with_info.msign((u * spectrum) @ v.T)
    estimates.append(answer.certificates[0].error_estimate)
    errors.append(np.linalg.norm(answer.value - u @ v.T) / np.sqrt(200))
plt.loglog(conditions, errors, "o-", label="true error")
plt.loglog(conditions, estimates, "s--", label="estimated error")
plt.xlabel("condition of the matrix")
plt.ylabel("relative error of msign")
plt.legend()
plt.show()
