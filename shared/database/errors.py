"""What writers that don't wait are told."""


class Taken(Exception):
    """Another writer has the store to itself."""
