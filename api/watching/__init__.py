"""Watching over the service: what is wrong and what to do about it, who works, and what the last hour was like."""
