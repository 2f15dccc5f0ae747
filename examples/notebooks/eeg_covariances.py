# %% [markdown]
# # 1000 EEG covariances, whitened in one call
#
# Each window mixes 64 channels of 40 sources with noise. `inv_root(C, r=2)` is $C^{-1/2}$, which whitens its samples.

# %%
import sys
from pathlib import Path

import numpy as np
from matplotlib import pyplot as plt

import matfn

sys.path.insert(0, str(Path.cwd().parent))
from eeg_whitening import windows

covariances = windows(1000)
client = matfn.LocalClient()
answer = client.with_info.inv_root(covariances, r=2)
whitened = answer.value @ covariances @ answer.value
covariances.shape

# %% [markdown]
# The first covariance before and after, and all spectra.

# %%
fig, axes = plt.subplots(1, 3, figsize=(13, 4))
axes[0].imshow(covariances[0])
axes[0].set_title("C")
axes[1].imshow(whitened[0])
axes[1].set_title(r"$C^{-1/2}\, C\, C^{-1/2}$")
axes[2].semilogy(np.linalg.eigvalsh(covariances[::50]).T, color="grey", linewidth=0.5)
axes[2].semilogy(np.linalg.eigvalsh(whitened[::50]).T, color="tab:blue", linewidth=0.5)
axes[2].set(title="eigenvalues: before (grey) and after (blue)", xlabel="number")
plt.show()

# %% [markdown]
# What the certificates estimate, against the distance of the whitened covariances from the identity.

# %%
estimates = [certificate.error_estimate for certificate in answer.certificates]
distances = np.linalg.norm(whitened - np.eye(64), axis=(1, 2))
plt.loglog(estimates, distances, ".", markersize=3)
plt.xlabel("estimated relative error of $C^{-1/2}$")
plt.ylabel("$|W C W - I|$")
plt.show()
