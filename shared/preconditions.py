"""Preconditions: what a request asks of a stream's version at the moment when its command is decided."""

from typing import NamedTuple, Self

from pydantic_core import from_json, to_json


class Precondition(NamedTuple):
    """A stream's version must be one of `versions` or, if `excluded`, none of them. 0: there is no such stream."""

    versions: frozenset[int]
    excluded: bool = False

    @classmethod
    def stored(cls, text: str) -> Self:
        """The precondition that `as_json` wrote."""
        [(kind, versions)] = from_json(text).items()
        return cls(frozenset(versions), kind == "none_of")

    def holds(self, version: int) -> bool:
        """Whether a stream at this version meets the precondition."""
        return (version in self.versions) is not self.excluded

    def and_(self, other: "Precondition") -> "Precondition":
        """The precondition that holds where both do."""
        if self.excluded and other.excluded:
            return Precondition(self.versions | other.versions, excluded=True)
        if self.excluded or other.excluded:
            wanted, unwanted = (other, self) if self.excluded else (self, other)
            return Precondition(wanted.versions - unwanted.versions)
        return Precondition(self.versions & other.versions)

    def as_json(self) -> str:
        """The precondition as it is stored."""
        return to_json({"none_of" if self.excluded else "one_of": sorted(self.versions)}).decode()


EXISTS = Precondition(frozenset({0}), excluded=True)
"""What `If-Match: *` asks for."""
