"""pyRiemann's roots and powers of stacks of covariances, computed by any client.

    from matfn.adapters.pyriemann import invsqrtm      # in place of pyriemann's own

pyRiemann's functions take the eigenvalues as they come: a covariance with one that is negative by rounding, of
fewer samples than channels, say, gives NaN. Here such eigenvalues count as 0, and an inverse is damped, with a
warning.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final, TypeVar

from matfn.shared_client import shared_client

if TYPE_CHECKING:
    from matfn.client import Client
    from matfn.local import LocalClient

__all__ = ["invsqrtm", "powm", "sqrtm"]

ArrayT = TypeVar("ArrayT")

_LARGEST: Final = 64  # of r and s in root and inv_root


def sqrtm(C: ArrayT, client: Client | LocalClient | None = None) -> ArrayT:
    """Square roots of SPD or HPD matrices, (..., n, n).

    Args:
        C: the matrices; the result is of the same kind of array.
        client: who computes; None takes a LocalClient that all share.
    """
    return _client(client).root(C, 2)


def invsqrtm(C: ArrayT, client: Client | LocalClient | None = None) -> ArrayT:
    """Inverse square roots of SPD or HPD matrices, (..., n, n), which whiten data of these covariances.

    Args:
        C: the matrices; the result is of the same kind of array.
        client: who computes; None takes a LocalClient that all share.
    """
    return _client(client).inv_root(C, 2)


def powm(C: ArrayT, alpha: float, client: Client | LocalClient | None = None) -> ArrayT:
    """Powers of SPD or HPD matrices, (..., n, n).

    Args:
        C: the matrices; the result is of the same kind of array.
        alpha: the power, other than 0: a fraction s / r with r and |s| up to 64.
        client: who computes; None takes a LocalClient that all share.

    Raises:
        ValueError: alpha is 0 or no such fraction.
    """
    power = Fraction(alpha).limit_denominator(_LARGEST)
    if not power or abs(power.numerator) > _LARGEST or float(power) != float(alpha):
        raise ValueError(f"alpha={alpha} is no fraction s / r other than 0 with r and |s| up to {_LARGEST}")
    own: Any = _client(client)
    function = own.root if power > 0 else own.inv_root
    powers: ArrayT = function(C, power.denominator, abs(power.numerator))
    return powers


def _client(given: Client | LocalClient | None) -> Client | LocalClient:
    return shared_client() if given is None else given
