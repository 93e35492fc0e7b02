"""The history of the event store's schema."""
