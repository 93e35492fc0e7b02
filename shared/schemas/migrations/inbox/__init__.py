"""The history of the inbox's schema."""
