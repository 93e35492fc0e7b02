"""Which e-mail addresses are taken: those that the library email-validator takes."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.domain.addresses import MAX_CHARACTERS, Email
from tests.support.pace import quickest

EMAIL = TypeAdapter(Email)

PARTS = st.text(st.sampled_from('aZ0.-_+!"<> @\\é中\u0301\u200d\n'), max_size=8)
LONG = st.builds(str.__mul__, st.just("a"), st.integers(60, 70))
DOMAINS = st.sampled_from(
    ["example.com", "EXAMPLE.com", "bücher.example", "a.test", "localhost", "[127.0.0.1]", "-.com"]
)


@given(PARTS | LONG, PARTS | DOMAINS | st.builds("{}.com".format, LONG))
@example("a" * 64, "b" * 63 + "." + "c" * 63 + "." + "d" * 59 + ".eu")  # 254 characters
@example("a" * 64, "b" * 63 + "." + "c" * 63 + "." + "d" * 60 + ".eu")  # 255
@settings(max_examples=500)
def test_an_address_is_taken_if_the_library_takes_it(local: str, domain: str) -> None:
    address = f"{local}@{domain}"
    try:
        validate_email(address, check_deliverability=False)
    except EmailNotValidError:
        with pytest.raises(ValidationError):
            EMAIL.validate_python(address)
    else:
        assert EMAIL.validate_python(address) == address


@pytest.mark.timeout(5)
@pytest.mark.parametrize("address", ["a{}@example.com", "{}@example.com", "a@{}.com", "{}"])
def test_an_address_that_is_too_long_is_refused_in_no_time(address: str) -> None:
    with pytest.raises(ValidationError, match="characters too many"):
        EMAIL.validate_python(address.format("\u0315\u0300" * 500_000))


def test_the_longest_address_takes_no_time() -> None:
    for pair in ("\u0315\u0300", "\u0300\u0315", "@\u0338"):
        address = ("a" + pair * MAX_CHARACTERS)[:MAX_CHARACTERS]

        def refused(address: str = address) -> None:
            with pytest.raises(ValidationError):
                EMAIL.validate_python(address)

        assert quickest(refused) < 0.5
