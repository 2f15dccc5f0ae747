"""Optimizers for torch whose matrix functions are computed by any client, in this process or on a server.

    optimizer = matfn.optim.Shampoo(model.parameters(), lr=1e-3, client=matfn.Client())

`import matfn` imports neither this package nor torch.
"""

from matfn.optim.muon import Muon
from matfn.optim.refresh import Refreshed, RefreshWarning
from matfn.optim.shampoo import Shampoo
from matfn.optim.soap import SOAP

__all__ = ["SOAP", "Muon", "RefreshWarning", "Refreshed", "Shampoo"]
