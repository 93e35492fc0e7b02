"""E-mail addresses that are accepted: those that the library email-validator accepts."""

import re
from functools import lru_cache
from typing import Annotated

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, Field

ORDINARY = re.compile(r"(?=.{1,64}$)[A-Za-z0-9_+-]+(\.[A-Za-z0-9_+-]+)*")
"""What stands before the @ of nearly all addresses. Then only the domain is checked, and the result is remembered."""

MAX_CHARACTERS = 254
"""Checked first: the library normalises before it counts, in time quadratic in the length."""


def _email(value: str) -> str:
    if len(value) > MAX_CHARACTERS:
        raise ValueError(f"The email address is too long ({len(value) - MAX_CHARACTERS} characters too many).")
    local, _, domain = value.rpartition("@")
    ordinary = ORDINARY.fullmatch(local) and domain.isascii()
    if error := _wrong_in_domain(domain) if ordinary else _wrong(value):
        raise ValueError(error)
    return value


@lru_cache(4096)
def _wrong_in_domain(domain: str) -> str | None:
    return _wrong(f"x@{domain}")


def _wrong(email: str) -> str | None:
    try:
        validate_email(email, check_deliverability=False)
    except EmailNotValidError as error:
        return str(error)
    return None


Email = Annotated[str, AfterValidator(_email), Field(json_schema_extra={"format": "email"})]
