"""People to make users of: names in many scripts, e-mail addresses that no earlier run has used."""

import random
import secrets
from dataclasses import dataclass, field

from faker import Faker

LOCALES = (
    *("en_US", "de_DE", "fr_FR", "es_ES", "pl_PL", "cs_CZ", "ru_RU", "uk_UA", "el_GR", "ka_GE", "hy_AM"),
    *("ar_AA", "he_IL", "fa_IR", "hi_IN", "ta_IN", "th_TH", "zh_CN", "ja_JP", "ko_KR"),
)

POOL = 200
"""Full names made for each locale; people get any of them."""

SEED = 1


@dataclass
class Person:
    """A user to be created, and the addresses that it moves to one after the other."""

    first_name: str
    last_name: str
    email: str
    later_emails: list[str] = field(default_factory=list)

    def body(self) -> dict[str, str]:
        """The body of the request that creates the user."""
        return {"first_name": self.first_name, "last_name": self.last_name, "email": self.email}


def invent(count: int, *, changes: int = 0) -> list[Person]:
    """So many people, and so many changes of address spread evenly over them. The names are the same in every run."""
    fakers, chance, run = Faker(LOCALES), random.Random(SEED), secrets.token_hex(4)
    fakers.seed_instance(SEED)
    names = [(fakers[each].first_name(), fakers[each].last_name()) for each in LOCALES for _ in range(POOL)]
    people = [Person(*chance.choice(names), f"person{number}.{run}@example.com") for number in range(count)]
    for number in range(changes):
        people[number * count // changes % count].later_emails.append(f"moved{number}.{run}@example.com")
    return people
