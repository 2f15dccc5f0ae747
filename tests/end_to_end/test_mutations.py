"""Damaged requests are answered, refused with a problem, or have their connection closed; none stops the server."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pytest

from mutants import mutant
from mutations import SEED, SETTINGS, Judge, connected, faults_of_server, judged
from processes import ServerProcess, running_server

if TYPE_CHECKING:
    from collections.abc import Iterator

NUMBER = 1200


@pytest.fixture(scope="module")
def server() -> Iterator[ServerProcess]:
    """A server with a bounded memory."""
    with running_server(None, **SETTINGS) as server:
        yield server


@pytest.mark.timeout(180)
def test_damaged_requests_have_sound_answers(server: ServerProcess) -> None:
    """No answer is a 5xx besides 503 and 504, every document is complete, and sending again changes nothing."""
    found = judged(Judge(partial(connected, server.address)), range(NUMBER))

    assert [(one.number, one.kind, one.faults) for one in found if one.faults] == []
    assert {200, 400, 404, 405, 415, 422} <= Counter(one.verdict[0] for one in found).keys()
    assert sum(one.is_compared for one in found) == NUMBER // 10
    assert faults_of_server(server) == []


@pytest.mark.parametrize("seed", [SEED, 1, 2])
def test_a_mutant_depends_on_its_seed_and_number_alone(seed: int) -> None:
    """So that one that found a fault can be made again."""
    numbers = random.Random(seed).sample(range(50_000), 20)
    first = [mutant(seed, number) for number in numbers]

    assert [mutant(seed, number) for number in reversed(numbers)] == first[::-1]
    assert first != [mutant(seed + 1, number) for number in numbers]
