"""The history of the store of people's keys's schema."""
