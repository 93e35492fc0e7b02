"""The page at `/`, with links to everything."""

from fastapi import Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from api.http.routing import Router

router = Router(tags=["home"])


class Home(BaseModel):
    """The title of the service, and links to what it has."""

    title: str = Field(examples=["Users, event-sourced"])
    links: dict[str, str] = Field(examples=[{"users": "/users/", "events": "/events/", "docs": "/docs"}])


@router.get("/", role="any", response_model=Home)
async def show_home(request: Request) -> Response:
    """The ways in: every path that needs no number or id."""
    paths = [route.path for route in request.app.routes if "GET" in route.methods and "{" not in route.path]
    links = {path.strip("/").replace("/", "-"): path for path in paths if path != "/"}
    return Response(to_json({"title": request.app.title, "links": links}), 200, media_type="application/json")
