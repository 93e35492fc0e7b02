"""The keys by which users are found changed: the projection makes those of its rows anew."""

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """No table is changed."""
