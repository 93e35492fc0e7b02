"""The history of the read model's schema."""
