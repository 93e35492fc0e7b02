"""Keys and tokens: whose they are, and whether they still count."""
