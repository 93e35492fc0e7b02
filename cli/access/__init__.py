"""`cqrs keys` and `cqrs audit`, and the commands' client for an API on another machine."""
