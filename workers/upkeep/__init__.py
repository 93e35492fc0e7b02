"""Upkeep: what command workers do once a minute, beside handling commands: taking away old commands' data."""
