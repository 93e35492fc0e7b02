"""Marks another rule for the keys of e-mail addresses: `emails` amends its rows (Projection.amend)."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """No table is changed."""
