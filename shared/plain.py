"""Errors that may be shown to anybody."""


class Plain(Exception):
    """Its message is made of this code's own words and names: it may be shown to anybody."""
