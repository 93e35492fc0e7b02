"""Which names are taken: whatever shows something, in any script, but nothing that turns or hides text."""

import pytest
from pydantic import TypeAdapter, ValidationError

from api.domain.names import Name

NAME = TypeAdapter(Name)


@pytest.mark.parametrize(
    "name",
    [
        "John",
        "O'Brien-Smith, Jr.",
        "Zoë",
        "Zoe\u0308",
        "张伟",
        "김",
        "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",  # Persian, with a non-joiner
        "\u0915\u094d\u200d\u0937",  # Devanagari, with a joiner
        "\u0dc1\u0dca\u200d\u0dbb\u0dd3",  # Sinhala
        "\u8fbb\U000e0100",  # a variant that a Japanese name is written with
        "\u1112\u119e\u11ab",  # Hangul of old
        "\u05d3\u05d5\u05d3\u200f",  # Hebrew, with a mark of direction
        "\U0001f468\u200d\U0001f469\u200d\U0001f467",
        "a" * 200,
    ],
    ids=ascii,
)
def test_names_of_all_scripts_are_taken(name: str) -> None:
    assert NAME.validate_python(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "\u200b",
        "\u200d\u200c",
        "\ufeff",
        "\u00ad",
        "\u2060\u2064",
        "\u3164",
        "\u115f\u1160",
        "\uffa0",
        "\u2800",
        "\ufe0f",
        "\U000e0100",
        "\u034f",
        "\u180e",
        "\u17b4",
        "\u200f",
        "\u200b\u3000\u200b",
        "\U0001d159",
    ],
    ids=ascii,
)
def test_a_name_that_shows_nothing_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="must contain a character that can be seen"):
        NAME.validate_python(name)


@pytest.mark.parametrize("character", [*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))], ids=ascii)
def test_what_turns_the_text_around_it_is_refused(character: str) -> None:
    with pytest.raises(ValidationError, match=rf"U\+{ord(character):04X}, which changes the direction of text"):
        NAME.validate_python(f"John{character}Doe")


@pytest.mark.parametrize("name", ["John\U000e0041\U000e0042", "\U000e0001", "a\ufff9b\ufffac\ufffb"], ids=ascii)
def test_hidden_text_is_refused(name: str) -> None:
    with pytest.raises(ValidationError, match="which hides text"):
        NAME.validate_python(name)


@pytest.mark.parametrize("character", ["\0", "\n", "\x1b", "\x7f", "\x85", "\u2028", "\u2029"], ids=ascii)
def test_control_characters_are_refused(character: str) -> None:
    with pytest.raises(ValidationError, match="must not contain control characters"):
        NAME.validate_python(f"John{character}Doe")


def test_a_lone_surrogate_is_refused() -> None:
    for json in (r'"\ud800"', r'"John\udfff"'):
        with pytest.raises(ValidationError):
            NAME.validate_json(json)
    with pytest.raises(ValidationError):
        NAME.validate_python("\ud800")


@pytest.mark.timeout(5)
@pytest.mark.parametrize("name", ["a" + "\u0315\u0300" * 500_000, "\u200b" * 1_000_000], ids=["marks", "unseen"])
def test_a_name_that_is_too_long_is_refused_in_no_time(name: str) -> None:
    with pytest.raises(ValidationError, match="at most 200 characters"):
        NAME.validate_python(name)
