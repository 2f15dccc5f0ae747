"""API keys with names, weights and limits, as a keys' file writes them.

A line is `KEY [name=NAME] [weight=W] [requests=N] [bytes=N] [seconds=S]`; commas separate keys like lines do. A key
without a name is called `key-1` by its number. Messages never contain a key.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from pydantic import SecretStr

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

__all__ = ["ApiKey", "Tenant", "keys_in"]

_NAME: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_MOST_WEIGHT: Final = 1000.0
_DIGITS: Final = 18
_OPTIONS: Final = "name=, weight=, requests=, bytes= or seconds=, each once"


@dataclass(frozen=True, slots=True)
class Tenant:
    """The name of an API key, and limits of its callers.

    Attributes:
        name: in logs and metrics; empty for all callers of a server without keys.
        weight: its share of the device beside that of others.
        requests: most requests in flight.
        bytes: most bytes of inputs and outputs of its calls in flight.
        seconds: device seconds a minute.
    """

    name: str = ""
    weight: float = 1.0
    requests: int | None = None
    bytes: int | None = None
    seconds: float | None = None


@dataclass(frozen=True, slots=True)
class ApiKey:
    """A key and its tenant."""

    secret: SecretStr
    tenant: Tenant

    def get_secret_value(self) -> str:
        """The key, as a caller sends it."""
        return self.secret.get_secret_value()


def keys_in(text: str) -> tuple[ApiKey, ...]:
    """All keys of a text, in order.

    Raises:
        ValueError: if an option is none, or two keys or two names are the same.
    """
    entries = [entry.split() for line in text.splitlines() for entry in line.split(",") if entry.strip()]
    keys = tuple(_key(number, *entry) for number, entry in enumerate(entries, 1))
    for what, seen in (("key", [key.get_secret_value() for key in keys]), ("name", [key.tenant.name for key in keys])):
        again = next((number for number, one in enumerate(seen) if one in seen[:number]), None)
        if again is not None:
            raise ValueError(f"key {again + 1} has the same {what} as key {seen.index(seen[again]) + 1}")
    return keys


def _key(number: int, secret: str, *options: str) -> ApiKey:
    try:
        named = dict(_parsed(options))
    except ValueError as error:
        raise ValueError(f"key {number}: {error}") from None
    tenant = Tenant(**{"name": f"key-{number}", **named})  # type: ignore[arg-type] # by _KINDS each has its type
    return ApiKey(SecretStr(secret), tenant)


def _parsed(options: tuple[str, ...]) -> Iterator[tuple[str, object]]:
    seen: set[str] = set()
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or name not in _KINDS or name in seen:
            raise ValueError(f"after the key come {_OPTIONS}")
        seen.add(name)
        yield name, _KINDS[name](name, value)


def _name(_: str, value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("name= must be 1 to 64 letters, digits, dots, dashes and underscores")
    return value


def _whole(name: str, value: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) <= _DIGITS and int(value) > 0):
        raise ValueError(f"{name}= must be a whole number of at least 1")
    return int(value)


def _positive(name: str, value: str) -> float:
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not 0 < number < math.inf or (name == "weight" and not 1 / _MOST_WEIGHT <= number <= _MOST_WEIGHT):
        raise ValueError(f"{name}= must be a number above 0" + (" from 0.001 to 1000" if name == "weight" else ""))
    return number


_KINDS: Final[Mapping[str, Callable[[str, str], object]]] = {
    "name": _name,
    "weight": _positive,
    "requests": _whole,
    "bytes": _whole,
    "seconds": _positive,
}
