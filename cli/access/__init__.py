"""`cqrs keys` and `cqrs audit`: who may do what, and who did it."""
