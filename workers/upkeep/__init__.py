"""Upkeep: what command workers do now and then, beside handling commands."""
