"""Numbers of the clients in this process: what an operator of torch can carry in a client's place."""

from __future__ import annotations

import itertools
import weakref
from typing import Any, Final

__all__ = ["Handled", "client_of", "new_handle", "require_handled"]

_clients: Final[weakref.WeakValueDictionary[int, Any]] = weakref.WeakValueDictionary()
_numbers: Final = itertools.count(1)


def new_handle(client: object) -> int:
    """A number of this client alone, by which it is found as long as it lives."""
    handle = next(_numbers)
    _clients[handle] = client
    return handle


class Handled:
    """An object with a handle; its copies, and what is unpickled, have handles of their own."""

    handle: int

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self.handle = new_handle(self)


def require_handled(client: object) -> Handled:
    """The client itself.

    Raises:
        TypeError: it is another kind of object, such as an AsyncClient.
    """
    if not isinstance(client, Handled):
        raise TypeError(
            f"client is {type(client).__qualname__}; differentiable functions take a Client or a LocalClient"
        )
    return client


def client_of(handle: int) -> Any:
    """The client of a handle.

    Raises:
        LookupError: if the client is gone.
    """
    client = _clients.get(handle)
    if client is None:
        raise LookupError("the client of this call is gone: keep it until the last backward pass")
    return client
