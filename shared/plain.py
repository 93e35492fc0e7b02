"""Errors that may be shown to anybody."""


class Plain(Exception):
    """An error whose message is made of this code's own words and names, so that it may be shown to anybody."""
