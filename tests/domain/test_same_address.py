"""Which e-mail addresses are the same: spellings of one mailbox have one key."""

import unicodedata

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given
from hypothesis import strategies as st

from shared.domain.users.addresses import key

LETTERS = "aZ9éßẞſΣσςΐΰŐİıǅﬁAÅ\u0345\u0301\u0308\u0300\u0323\u1fb3가각ᄀ中"  # noqa: RUF001
LOCALS = st.text(st.sampled_from(LETTERS) | st.characters(), min_size=1, max_size=12)
DOMAINS = st.sampled_from(
    ["bücher.example.org", "straße.example.de", "mail.example.com", "例え.example.jp", "xn--bcher-kva.example.org"]
)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("John@Example.com", "john@example.COM"),
        ("a@bücher.example.org", "a@xn--bcher-kva.example.org"),
        ("a@BÜCHER.example.org", "a@XN--BCHER-KVA.example.org"),
        ("a@bu\u0308cher.example.org", "a@bücher.example.org"),
        ("b@mail.example.com", "b@ｍａｉｌ.example.com"),  # noqa: RUF001
        ("b@例え.example.jp", "b@例え。example。jp"),
        ("straße@example.com", "STRASSE@example.com"),
        ("\u0390@example.com", "\u0399\u0308\u0301@example.com"),
        ("café@example.com", "cafe\u0301@example.com"),
        ("\u0397\u03a1\u03a9\u03a3@example.com", "\u03b7\u03c1\u03c9\u03c2@example.com"),
        ("\u1fb3\u0301@example.com", "\u03b1\u0301\u0345@example.com"),
    ],
)
def test_spellings_of_one_mailbox_are_the_same(one: str, other: str) -> None:
    assert key(one) == key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("a@straße.example.de", "a@strasse.example.de"),
        ("a@bücher.example.org", "a@bucher.example.org"),
        ("é@example.com", "e@example.com"),
        ("a.b@example.com", "ab@example.com"),
        ("a+b@example.com", "a@example.com"),
    ],
)
def test_other_mailboxes_are_others(one: str, other: str) -> None:
    assert key(one) != key(other)


@given(LOCALS, DOMAINS)
def test_a_local_part_is_compared_as_unicode_compares_canonically_and_caselessly(local: str, domain: str) -> None:
    spelled = key(f"{local}@{domain}")
    assert key(spelled) == spelled
    for form in ("NFC", "NFD"):
        assert key(f"{unicodedata.normalize(form, local)}@{domain}") == spelled
        assert key(f"{unicodedata.normalize(form, local).casefold()}@{domain}") == spelled


@given(LOCALS, LOCALS)
def test_local_parts_are_equal_as_d145_of_unicode_says(one: str, other: str) -> None:
    def d145(text: str) -> str:
        return unicodedata.normalize("NFD", unicodedata.normalize("NFD", text).casefold())

    assert (key(f"{one}@é.eu") == key(f"{other}@é.eu")) == (d145(one) == d145(other))


@given(LOCALS, st.text(st.sampled_from("aZ9éßẞΣ中え.-。ｍ\u0308\u200d"), max_size=12))  # noqa: RUF001
def test_the_domain_of_an_address_that_is_taken_is_its_a_label(local: str, name: str) -> None:
    try:
        valid = validate_email(f"{local}@{name}.com", check_deliverability=False)
    except EmailNotValidError:
        return
    assert key(f"{local}@{name}.com").rpartition("@")[2] == valid.ascii_domain


@given(st.text())
def test_whatever_stands_in_a_log_has_a_key(text: str) -> None:
    assert key(text) == key(text)
    assert key(f"é@{text}") == key(f"É@{text}")


@pytest.mark.parametrize("text", ["\ud800@é.com", "@", "", "é", "é@", "é@..", "é@xn--.com", "é@" + "a\u0323" * 60])
def test_what_is_no_address_has_a_key_too(text: str) -> None:
    assert key(key(text)) == key(text)


@pytest.mark.timeout(20)
def test_a_key_takes_linear_time_however_long_its_address_is() -> None:
    key("a" + "\u0315\u0300" * 500_000 + "@example.com")
    key("é@" + "\u0315\u0300" * 500_000)
