"""The settings in effect, each with where it comes from; secrets are never shown."""

from fastapi import Request, Response

from api.console.pages import Pages, page, service_of
from shared.operations.configuration import DEFAULT, configuration

router = Pages(section="System")


@router.get("/console/system/settings", role="operator", title="Settings")
async def show_settings(request: Request) -> Response:
    """The settings that somebody made, then those that are left to their defaults."""
    settings = configuration(service_of(request).settings)
    made = {name: each for name, each in settings.items() if each.source != DEFAULT}
    left = {name: each for name, each in settings.items() if each.source == DEFAULT}
    return page(request, "system_settings.html", made=made, left=left)
