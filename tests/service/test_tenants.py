"""Keys with names, weights and limits, as a keys' file writes them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from matfn_service.settings import Settings
from matfn_service.tenants import ApiKey, Tenant, keys_in

if TYPE_CHECKING:
    from pathlib import Path


def test_plain_keys_have_numbers_for_names() -> None:
    """Keys one a line or with commas between have no limits and equal weights."""
    keys = keys_in("one, two,\n\nthree\n")

    assert [key.get_secret_value() for key in keys] == ["one", "two", "three"]
    assert [key.tenant for key in keys] == [Tenant("key-1"), Tenant("key-2"), Tenant("key-3")]


def test_options_follow_the_key() -> None:
    """Options come in any order; what is not written has no limit."""
    keys = keys_in("s3cret name=team-a weight=2.5 requests=8 bytes=1000000 seconds=30\nother seconds=0.5 name=b\nplain")

    assert [key.tenant for key in keys] == [
        Tenant("team-a", 2.5, 8, 1_000_000, 30.0),
        Tenant("b", seconds=0.5),
        Tenant("key-3"),
    ]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("s3cret name=a name=b", "key 1: after the key come"),
        ("s3cret colour=red", "key 1: after the key come"),
        ("s3cret two words", "key 1: after the key come"),
        ("ok\ns3cret requests=0", "key 2: requests= must be a whole number of at least 1"),
        ("s3cret bytes=1.5", "key 1: bytes= must be"),
        ("s3cret bytes=" + "9" * 19, "key 1: bytes= must be"),
        ("s3cret seconds=nan", "key 1: seconds= must be a number above 0"),
        ("s3cret seconds=0", "key 1: seconds= must be a number above 0"),
        ("s3cret weight=inf", "key 1: weight= must be"),
        ("s3cret weight=5000", "key 1: weight= must be a number above 0 from 0.001 to 1000"),
        ("s3cret name=", "key 1: name= must be"),
        ("s3cret name=a/b", "key 1: name= must be"),
        ("s3cret\ns3cret", "key 2 has the same key as key 1"),
        ("s3cret name=a\nother name=a", "key 2 has the same name as key 1"),
        ("s3cret name=key-2\nother", "key 2 has the same name as key 1"),
    ],
)
def test_fault_names_the_key_by_its_number(tmp_path: Path, text: str, reason: str) -> None:
    """A fault ends the start with the key's number and what is allowed, and never with the key itself."""
    path = tmp_path / "keys"
    path.write_text(text)
    with pytest.raises(ValueError, match="MATFN_API_KEYS_FILE") as caught:
        Settings.model_validate({"api_keys_file": str(path)})

    assert reason in str(caught.value)
    with pytest.raises(ValueError, match="key") as bare:
        keys_in(text)
    assert "s3cret" not in str(bare.value)


@given(st.text(max_size=60))
def test_any_text_gives_keys_or_a_reason(text: str) -> None:
    """No text makes the parser fail otherwise than by its reason, and no name is there twice."""
    keys: tuple[ApiKey, ...] = ()
    reason = ""
    try:
        keys = keys_in(text)
    except ValueError as error:
        reason = str(error)

    assert reason.startswith("key ") or len({key.tenant.name for key in keys}) == len(keys)


def test_representation_hides_the_key() -> None:
    """A key that is printed shows its name and stars."""
    assert "s3cret" not in repr(keys_in("s3cret name=a"))
