"""Idempotency keys rest as hashes under the installation's secret: `migrations` makes them of those that are there."""

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Change no table."""
