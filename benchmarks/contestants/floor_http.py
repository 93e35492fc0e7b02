"""The routes of the service, each answering a constant: what HTTP itself costs with FastAPI and uvicorn."""

from typing import Annotated

from fastapi import FastAPI, Path, Response
from pydantic import BaseModel

COMMAND = b'{"command_id":"019aaf3e-5c10-7cc3-98c4-dc0c0c07398f","type":"CreateUser","status":"accepted","user_id":1}'
USER = b'{"user_id":1,"first_name":"John","last_name":"Doe","email":"john.doe@example.com","version":1}'

UserId = Annotated[int, Path(ge=1)]

app = FastAPI()


class NewUser(BaseModel):
    """The body that creates a user."""

    first_name: str
    last_name: str
    email: str


class NewEmail(BaseModel):
    """The body that changes its address."""

    email: str


@app.post("/users/", status_code=202)
async def create_user(body: NewUser) -> Response:
    """Answer as to a command."""
    return Response(COMMAND, 202, media_type="application/json")


@app.put("/users/{user_id}", status_code=202)
async def update_user_email(user_id: UserId, body: NewEmail) -> Response:
    """Answer as to a command."""
    return Response(COMMAND, 202, media_type="application/json")


@app.get("/users/{user_id}")
async def show_user(user_id: UserId) -> Response:
    """Answer with a user."""
    return Response(USER, media_type="application/json")
