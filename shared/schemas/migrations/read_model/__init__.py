"""The history of the read model's schema. The tables of projections aren't in it: a rebuild makes them anew."""
