"""The ledger keeps its sums within the bounds, and says why it cannot."""

from __future__ import annotations

import threading
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.ledger import Bounds, Kind, Ledger
from matfn_service.problems import Refusal

MIB = 2**20


def ledger(server: int = 100, request: int = 60) -> Ledger:
    """A ledger that tells callers to wait for 7 s."""
    return Ledger(Bounds(server, request), lambda: 7.0)


def refusal_of(found: Ledger, charges: dict[Kind, int]) -> Refusal:
    """Why a new account is not charged."""
    with pytest.raises(Refusal) as refused:
        found.account().charge(charges)
    return refused.value


def test_room_comes_back() -> None:
    """What one account holds another one must wait for, until the first is closed."""
    found = ledger()
    with found.account() as first:
        first.charge({Kind.BODIES: 50, Kind.ANSWERS: 20})
        refused = refusal_of(found, {Kind.BODIES: 31})

        assert (refused.code, refused.retry_after) == ("busy", 7.0)
        assert "31 bytes" in str(refused)
        assert "100 (MATFN_MEMORY) all requests hold 70" in str(refused)
    found.account().charge({Kind.BODIES: 31})


@pytest.mark.parametrize(
    ("charges", "setting"),
    [
        ({Kind.BODIES: 101}, "MATFN_MEMORY"),
        ({Kind.OUTPUTS: 50, Kind.ANSWERS: 51}, "MATFN_MEMORY"),
        ({Kind.INPUTS: 31, Kind.OUTPUTS: 30}, "MATFN_QUEUE_BYTES"),
    ],
)
def test_what_never_fits_is_too_large(charges: dict[Kind, int], setting: str) -> None:
    """A charge beyond what an idle server has is not told to come again."""
    refused = refusal_of(ledger(), charges)

    assert (refused.code, refused.retry_after) == ("too_large", None)
    assert setting in str(refused)


def test_calls_of_one_request_share_its_bound() -> None:
    """A call that alone would fit is told to come again where earlier calls of its request take the room."""
    found = ledger()
    account = found.account()
    account.charge({Kind.INPUTS: 40})

    with pytest.raises(Refusal, match="MATFN_QUEUE_BYTES") as refused:
        account.charge({Kind.OUTPUTS: 21})
    account.charge({Kind.OUTPUTS: 20, Kind.CALLS: 30})

    assert refused.value.code == "busy"
    assert found.total == 90


def test_a_refused_charge_leaves_nothing() -> None:
    """A charge of several kinds is made as a whole or not at all."""
    found = ledger()
    refusal_of(found, {Kind.CALLS: 10, Kind.INPUTS: 61})

    assert found.total == 0
    assert found.refused == 0


def test_unfinished_bodies_leave_room_for_others() -> None:
    """Large bodies on their way take at most half, except one alone; small ones are taken beside them."""
    found = ledger(100 * MIB)
    found.account().charge({Kind.ARRIVING: 45 * MIB})

    assert "bodies on their way" in str(refusal_of(found, {Kind.ARRIVING: 6 * MIB}))
    found.account().charge({Kind.ARRIVING: MIB})
    found.account().charge({Kind.BODIES: 6 * MIB})
    ledger(100 * MIB).account().charge({Kind.ARRIVING: 70 * MIB})


def test_a_body_that_grows_is_charged_as_it_comes() -> None:
    """A body of unknown length meets the bound of those on their way in the middle."""
    found = ledger(4 * MIB)
    found.account().charge({Kind.ARRIVING: MIB})
    growing = found.account()

    growing.charge({Kind.ARRIVING: MIB})
    with pytest.raises(Refusal, match="on their way"):
        growing.charge({Kind.ARRIVING: MIB // 2})


def test_owners_are_summed() -> None:
    """All accounts of one caller are summed under its name, and forgotten when they are closed."""
    found = ledger()
    first, second = found.account("ann"), found.account("ann")
    first.charge({Kind.BODIES: 3})
    second.charge({Kind.INPUTS: 4})
    found.account("bob").charge({Kind.INPUTS: 5})

    assert (found.held_by("ann"), found.held_by("bob"), found.held_by("")) == (7, 5, 0)
    first.close()
    second.close()
    assert found.held_by("ann") == 0


@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.sampled_from(list(Kind)), st.integers(0, 40), st.sampled_from("crtx")),
        max_size=60,
    )
)
def test_sums_are_those_of_the_accounts(steps: list[tuple[int, Kind, int, str]]) -> None:
    """Whatever is charged, turned, released and closed, the sums are the accounts' and within the bounds."""
    found = ledger()
    accounts = [found.account(str(number % 2)) for number in range(4)]
    for number, kind, size, what in steps:
        account = accounts[number]
        if what == "c":
            try:
                account.charge({kind: size, Kind.CALLS: 1})
            except Refusal:
                continue
        elif what == "r":
            account.release(kind)
        elif what == "t":
            account.turn(kind, Kind.ANSWERS)
        else:
            account.close()
        sums = Counter[Kind]()
        for one in accounts:
            sums.update(one.held)
        assert {kind: found.held(kind) for kind in Kind} == {kind: sums[kind] for kind in Kind}
        assert found.total == sums.total() <= found.bounds.server
        assert sum(found.held_by(owner) for owner in "01") == found.total


def test_threads_charge_at_the_same_time() -> None:
    """Accounts that are charged and closed in several threads leave nothing behind."""
    found = ledger(10**9, 10**9)

    def charge() -> None:
        for _ in range(2000):
            with found.account("ann") as account:
                account.charge({Kind.INPUTS: 3, Kind.OUTPUTS: 5})
                account.turn(Kind.OUTPUTS, Kind.ANSWERS)

    threads = [threading.Thread(target=charge) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (found.total, found.held_by("ann")) == (0, 0)
