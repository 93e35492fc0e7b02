"""The ways in: links at `/`, and the OpenAPI page at `/docs`.

The page is Swagger UI from a package, so that a browser loads nothing from elsewhere.
"""

from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

from fastapi import Request, Response
from pydantic import BaseModel, Field
from pydantic_core import to_json

from api.http.problems import not_found
from api.http.routing import Router

router = Router(in_schema=False)

# Swagger UI has pictures in its stylesheet.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)

HEADERS = {"Content-Security-Policy": POLICY, "Referrer-Policy": "no-referrer"}

PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>API</title>
<link rel="icon" href="/docs/favicon.png">
<link rel="stylesheet" href="/docs/swagger-ui.css">
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</html>
"""

START = 'SwaggerUIBundle({url: "/openapi.json", dom_id: "#swagger-ui", deepLinking: true});\n'

CONSOLE = "/console"

CACHED = {"Cache-Control": "max-age=3600"}


class Home(BaseModel):
    """The title of the service, and links to what it has."""

    title: str = Field(examples=["Users, event-sourced"])
    links: dict[str, str] = Field(examples=[{"users": "/users/", "events": "/events/", "docs": "/docs"}])


class File(NamedTuple):
    """A file that the page loads."""

    media_type: str
    content: bytes


@router.get("/", role="any", response_model=Home, tags=["home"], include_in_schema=True)
async def show_home(request: Request) -> Response:
    """The ways in: every path that needs no number or id. A browser is led to the console."""
    if "text/html" in request.headers.get("accept", ""):
        return Response(status_code=307, headers={"Location": CONSOLE, "Vary": "Accept"})
    routes = [route for route in request.app.routes if "GET" in route.methods and "{" not in route.path]
    paths = [route.path for route in routes if route.path == CONSOLE or not route.path.startswith(f"{CONSOLE}/")]
    links = {path.strip("/").replace("/", "-"): path for path in paths if path != "/"}
    return Response(to_json({"title": request.app.title, "links": links}), 200, media_type="application/json")


@router.get("/openapi.json", role="docs")
async def show_openapi(request: Request) -> Response:
    """The OpenAPI document, from which the page is made."""
    return Response(to_json(request.app.openapi()), media_type="application/json")


@router.get("/docs", role="docs")
async def show_docs(request: Request) -> Response:
    """The page, which shows the OpenAPI document."""
    return Response(PAGE, headers=HEADERS, media_type="text/html")


@router.get("/redoc", role="docs")
async def show_redoc(request: Request) -> Response:
    """Leads to `/docs`: FastAPI's other page needs styles within the document."""
    return Response(status_code=308, headers={"Location": "/docs"})


@router.get("/docs/{name}", role="docs")
async def show_file(request: Request, name: str) -> Response:
    """A file that the page loads."""
    file = _files().get(name)
    if not file:
        raise not_found(request.url.path)
    return Response(file.content, headers=HEADERS | CACHED, media_type=file.media_type)


@cache
def _files() -> dict[str, File]:
    """The files by their names, read from the folder of a package: to import the package takes longer."""
    spec = find_spec("fastapi_offline")
    assert spec
    assert spec.origin
    folder = Path(spec.origin).parent / "static"
    return {
        "start.js": File("text/javascript", START.encode()),
        "swagger-ui-bundle.js": File("text/javascript", (folder / "swagger-ui-bundle.js").read_bytes()),
        "swagger-ui.css": File("text/css", (folder / "swagger-ui.css").read_bytes()),
        "favicon.png": File("image/png", (folder / "favicon.png").read_bytes()),
    }
