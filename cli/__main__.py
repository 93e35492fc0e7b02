"""`python -m cli` is `cqrs`."""

from cli.main import app

app(prog_name="cqrs")
