"""Who may do what: roles, principals, and what a key looks like. Knows no store."""
