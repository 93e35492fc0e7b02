"""Who may do what: roles, principals, keys, and the record of what operators do."""
