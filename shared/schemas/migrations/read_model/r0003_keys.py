"""The keys by which users are found are others: `rekeying` makes them anew."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """No table is changed."""
