"""The `Prefer` header, by RFC 7240."""

import pytest
from hypothesis import given
from hypothesis import strategies as some

from api.http.headers import wait_of
from tests.support.pace import quickest


@pytest.mark.parametrize(
    ("prefer", "wait"),
    [
        ("wait=5", 5),
        ("respond-async, wait=5", 5),
        ("respond-async, Wait = 5", 5),
        ("respond-async;x,WAIT=5", 5),
        ('wait="5"', 5),
        ('wait="\\5"', 5),
        ("wait=5; note=x", 5),
        ('respond-async, wait=5; foo="a, wait=7"', 5),
        ('foo="wait=7, bar", wait=5', 5),
        ('foo="\\", wait=7", wait=5', 5),
        ("foo; wait=7, wait=5", 5),
        ("wait=5, wait=7", 5),
        ("wait=soon, wait=7", None),
        (", ,wait=5,,", 5),
        ("\twait\t=\t5\t", 5),
        ("(what), wait=5", 5),
        ("wait=99", 30),
        ("wait=99999999999999999999", 30),
        ("wait=0", 0),
        ("wait=005", 5),
        ("wait=-1", None),
        ("wait=+1", None),
        ("wait=1.5", None),
        ("wait=1_0", None),
        ("wait=\u0665", None),
        ("wait=5 6", None),
        ("wait=", None),
        ('wait=""', None),
        ("wait", None),
        ("wait=soon", None),
        ('wait="5', None),
        ("await=5", None),
        ("", None),
        (None, None),
    ],
)
def test_prefer_is_read_as_rfc_7240_has_it(prefer: str | None, wait: float | None) -> None:
    assert wait_of(prefer, longest=30) == wait


WORDS = some.sampled_from([*'wait=5",;\\ \t()x', "respond-async", "wait=3", 'foo="', "\xff"])


@given(some.lists(WORDS, max_size=30).map("".join))
def test_whatever_is_sent_is_no_error(prefer: str) -> None:
    assert wait_of(prefer, longest=30) in {None, *range(31)}


@given(
    before=some.sampled_from(
        ["", "respond-async", 'a="b, \\" wait=9"', "x;wait=9", "handling=lenient ; y", "=", "a b"]
    ),
    name=some.sampled_from(["wait", "Wait", "WAIT"]),
    value=some.sampled_from(["7", '"7"', "07", '"\\7"']),
    after=some.sampled_from(["", ";x", "; y=1", ', wait=9, "', ",a"]),
    space=some.sampled_from(["", " ", "\t "]),
)
def test_it_is_found_wherever_it_stands(before: str, name: str, value: str, after: str, space: str) -> None:
    assert wait_of(f"{before},{space}{name}{space}={space}{value}{space}{after}", longest=30) == 7


@pytest.mark.parametrize("piece", ['"', '"\\', "a=\t", "\t", 'a="', ";", ",", 'w="\\"', "=", 'a "'])
def test_64_kib_of_anything_are_read_in_no_time(piece: str) -> None:
    assert quickest(lambda: wait_of(piece * (65536 // len(piece)) + "\0", longest=30)) < 0.2
