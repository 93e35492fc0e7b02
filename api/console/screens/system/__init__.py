"""What the service is made of, for operators: stores, settings, keys; what was done; and one's own sessions."""

from api.console.pages import Pages
from api.console.screens.system import audit, events, keys, sessions, settings, stores

ROUTERS: list[Pages] = [each.router for each in (stores, events, settings, keys, audit, sessions)]
