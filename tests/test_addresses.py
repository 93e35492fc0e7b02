"""Which e-mail addresses are taken: those that the library email-validator takes."""

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from api.users import Email

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
