"""Draws docs/pictures/queueing.svg: calls of three keys wait, share batches and leave, animated without a script.

The queue is simulated by its rules: a free worker takes the first call and all others of its key, up to a limit.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
SECONDS: Final = 18.0
"""Of the animation, which begins again then."""
MOVE: Final = 0.35
"""Seconds that a call takes from place to place."""
LARGEST: Final = 6
COLOURS: Final = {"inv_root 64": "#3f7fd1", "msign 128": "#d1713f", "log 32": "#3fa36b"}
ARRIVALS: Final = (
    "0 0.4:0 0.5:1 0.7:0 0.9:2 1.0:0 1.2:1 1.5:0 1.7:2 1.8:0 2.1:1 2.2:0 2.6:2 3.0:1 3.4:0 5.2:2 5.3:2 5.5:0 5.6:1"
    " 5.7:2 5.8:1 6.0:1 6.3:0 6.5:1 6.8:0 9.0:0 10.5:1 12:2"
)
"""Times and keys."""


@dataclass(slots=True)
class Call:
    """A call, and where it is from which time on: x, y and whether it is seen."""

    key: int
    arrived: float
    stops: list[tuple[float, float, float, int]] = field(default_factory=list)


def calls() -> list[Call]:
    """All calls in the order of their arrival."""
    pairs = (entry.split(":") for entry in ARRIVALS.split()[1:])
    return [Call(int(key), float(time)) for time, key in pairs]


def simulated(arriving: list[Call]) -> list[tuple[float, float, int, int]]:
    """Batches as start, end, key and size; the calls' stops are written down."""
    waiting: list[Call] = []
    batches = []
    free, index = 0.0, 0
    while index < len(arriving) or waiting:
        now = max(free, arriving[index].arrived) if not waiting else free
        while index < len(arriving) and arriving[index].arrived <= now:
            waiting.append(arriving[index])
            _queued(waiting, len(waiting) - 1, arriving[index].arrived)
            index += 1
        batch = [call for call in waiting if call.key == waiting[0].key][:LARGEST]
        free = now + MOVE + 0.9 + 0.15 * len(batch)
        _computed(batch, now, free)
        waiting = [call for call in waiting if call not in batch]
        for place in range(len(waiting)):
            _queued(waiting, place, now)
        batches.append((now, free, batch[0].key, len(batch)))
    return batches


def _queued(waiting: list[Call], place: int, now: float) -> None:
    waiting[place].stops.append((now, 372 - 26 * place, 70, 1))


def _computed(batch: list[Call], start: float, end: float) -> None:
    for place, call in enumerate(batch):
        call.stops.append((start, 452 + 26 * (place % 3), 56 + 28 * (place // 3), 1))
        call.stops.append((end, 640, 70, 0))


def animated(call: Call) -> str:
    """The circle of a call, moved from stop to stop."""
    times, places = [0.0, call.arrived], [(0.0, 70.0, 0), (0.0, 70.0, 0)]
    for time, x, y, seen in call.stops:
        start = max(time, times[-1])  # one move after the other
        times += [start, start + MOVE]
        places += [(*places[-1][:2], 1), (x, y, seen)]
    times.append(SECONDS)
    places.append((*places[-1][:2], 0))
    keys = ";".join(f"{time / SECONDS:.4f}" for time in times)
    moves = "".join(
        f'<animate attributeName="{name}" values="{";".join(f"{place[number]:g}" for place in places)}" '
        f'keyTimes="{keys}" dur="{SECONDS:g}s" repeatCount="indefinite"/>'
        for number, name in enumerate(("cx", "cy", "opacity"))
    )
    colour = list(COLOURS.values())[call.key]
    return f'<circle r="11" cx="0" cy="70" opacity="0" fill="{colour}">{moves}</circle>'


def label(start: float, end: float, key: int, size: int) -> str:
    """The words below the worker while it computes a batch."""
    times = (0.0, start, start, end, end, SECONDS)
    keys = ";".join(f"{time / SECONDS:.4f}" for time in times)
    words = f"{list(COLOURS)[key]}: batch of {size}"
    return (
        f'<text x="478" y="124" text-anchor="middle" opacity="0">{words}<animate attributeName="opacity" '
        f'values="0;0;1;1;0;0" keyTimes="{keys}" dur="{SECONDS:g}s" repeatCount="indefinite"/></text>'
    )


def picture() -> str:
    """The whole picture."""
    arriving = calls()
    batches = simulated(arriving)
    keys = "".join(
        f'<circle r="6" cx="{20 + 130 * number}" cy="146" fill="{colour}"/>'
        f'<text x="{32 + 130 * number}" y="150">{name}</text>'
        for number, (name, colour) in enumerate(COLOURS.items())
    )
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 640 164" font-family="sans-serif" font-size="12" '
        'fill="#333">'
        "<title>Calls wait, share batches by their keys, and leave</title>"
        '<rect width="640" height="164" rx="6" fill="#fbfbfd" stroke="#ccc"/>'
        '<text x="20" y="24">calls arrive</text><text x="240" y="24">queue</text>'
        '<text x="478" y="24" text-anchor="middle">worker</text><text x="580" y="24">answers</text>'
        '<rect x="90" y="36" width="300" height="68" rx="6" fill="none" stroke="#999" stroke-dasharray="4 3"/>'
        '<rect x="430" y="36" width="96" height="68" rx="6" fill="#eef" stroke="#999"/>'
        f"{''.join(map(animated, arriving))}{''.join(label(*batch) for batch in batches)}{keys}</svg>\n"
    )


def main() -> None:
    """Writes the picture."""
    (HERE / "queueing.svg").write_text(picture())


if __name__ == "__main__":
    main()
