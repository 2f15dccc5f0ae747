"""How many devices each shared resource can feed, by division: its capacity over what one device asks of it."""

from __future__ import annotations

import math
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from fleet import Fleet
    from traffic import Sort

__all__ = ["PROXY_DEVICES", "Demand", "ceilings", "demand"]

PROXY_DEVICES: Final = 8
"""Devices behind one router, such as those of one machine."""


@dataclass(frozen=True, slots=True)
class Demand:
    """What keeps one device at its load.

    Attributes:
        rate: calls a second.
        received: bytes a second of requests.
        sent: bytes a second of answers.
        loop: share of a core that the event loop takes.
        front: share of a core that fronts take.
        hottest: share of the device seconds that calls of one hint have.
    """

    rate: float
    received: float
    sent: float
    loop: float
    front: float
    hottest: float


def demand(uses: tuple[Sort, ...], rate: float, fleet: Fleet) -> Demand:
    """What so many calls a second ask for."""
    weighted = [
        (use.share * float(chance), kind) for use in uses for chance, kind in zip(use.chances, use.kinds, strict=True)
    ]
    seconds: defaultdict[str, float] = defaultdict(float)
    for weight, kind in weighted:
        seconds[kind.hint] += weight * kind.seconds
    received = rate * math.fsum(weight * kind.received for weight, kind in weighted)
    sent = rate * math.fsum(weight * kind.sent for weight, kind in weighted)
    total = math.fsum(seconds.values())
    return Demand(
        rate=rate,
        received=received,
        sent=sent,
        loop=rate * fleet.loop.call + (received + sent) * fleet.loop.byte,
        front=rate * fleet.front.call + (received + sent) * fleet.front.byte,
        hottest=max(seconds.values()) / total,
    )


def ceilings(one: Demand, load: float, fleet: Fleet, look: float) -> dict[str, float]:
    """Devices at which each resource is full, by its name.

    Args:
        one: what one device asks for.
        load: share of its time that this takes.
        fleet: whose loops and wire they are.
        look: seconds in which a router looks at one replica for one call.
    """
    return {
        "one device, if a key never leaves its first replica": 1 / (one.hottest * load),
        "one event loop": 1 / one.loop,
        "one wire to all of them": 1 / (max(one.received, one.sent) * fleet.byte),
        f"one router for each {PROXY_DEVICES}, looking at every replica for every call": 1
        / (PROXY_DEVICES * one.rate * look),
    }
