"""An API on another machine, which some commands ask by HTTP instead of this machine's stores."""

from contextlib import closing, suppress
from functools import cache
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ssl import SSLCertVerificationError, SSLError
from typing import Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from pydantic_core import from_json, to_json
from rich.console import Group, RenderableType

from cli.errors import Refused
from cli.output import complain, state, table
from shared.errors.reasons import reason_of
from shared.errors.visible import shortened
from shared.settings import Settings, is_loopback

ANSWER_TIMEOUT = 10.0
"""Seconds in which the API must answer: it may take four to look at what is wrong with a store."""

WAITING = {"Content-Type": "application/json", "Prefer": "wait=5"}
"""Headers of a command: its answer waits for the outcome, which takes milliseconds if all is well."""

SHOWN_CHARACTERS = 300
"""Characters of an error's detail that are shown."""

BARE = "A key with the role operator shows dependencies and projections, too."


def here() -> Settings:
    """The settings of a command that works only on this machine's stores. Raises Refused if CQRS_API_URL is set."""
    settings = Settings()
    if settings.api_url:
        raise Refused("this command works on the stores of this machine only: unset CQRS_API_URL first")
    return settings


class Api:
    """An API at a URL, asked with a key or a token if there is one. Raises Refused if the URL or the key is none."""

    def __init__(
        self, url: str, key: SecretStr | None, *, given_by: str = "CQRS_API_URL", timeout: float = ANSWER_TIMEOUT
    ) -> None:
        """`given_by`: the setting or option that gave the URL, named if it is refused; `timeout`: seconds."""
        self.url = _checked(url, given_by)
        self._where = urlsplit(url)
        self._timeout = timeout
        self._headers = {}
        if key:
            self._headers["Authorization"] = f"Bearer {_text_of(key)}"
            if self._where.scheme == "http" and not is_loopback(self._where.hostname or ""):
                _warn(url)

    def get(self, path: str, *, also: int = 200, kind: type = dict) -> Any:
        """The JSON at a path, if it is a `kind` and the status is 200 or `also`. Raises Refused."""
        return self._answer("GET", path, {200, also}, kind)

    def do(self, method: str, path: str, body: Any = None) -> dict[str, Any]:
        """Have an operator's deed done; returns the command, with its outcome unless it takes long. Raises Refused."""
        done: dict[str, Any] = self._answer(method, path, {202}, dict, body)
        if done["status"] == "accepted":
            complain(f"accepted, and not handled yet: cqrs commands show {done['command_id']}")
        return done

    def _answer(self, method: str, path: str, statuses: set[int], kind: type, given: Any = None) -> Any:
        status, media_type, text = self._ask(method, path, None if given is None else to_json(given))
        body = None
        with suppress(ValueError):
            body = from_json(text)
        if status in statuses and isinstance(body, kind) and media_type == "application/json":  # no problem
            return body
        detail = body.get("detail") if isinstance(body, dict) else None
        if status == 401 and not self._headers:
            detail = "it needs a key or a token in CQRS_API_KEY"
        why = shortened(str(detail or "no answer of this API"), SHOWN_CHARACTERS)
        raise Refused(f"{self.url} answers {status}: {why}")

    def body(self, path: str) -> bytes:
        """The body of the answer at a path, whatever the status, unless the caller may not see it. Raises Refused."""
        status, _, text = self._ask("GET", path, None)
        if status in {401, 403}:
            raise Refused(f"{self.url} answers {status}: it needs a key that may see it, in CQRS_API_KEY")
        return text

    def status(self) -> dict[str, Any]:
        """The answer of `GET /readyz`, with the API's URL as `api`, and `well` if it is ready. Raises Refused."""
        found: dict[str, Any] = self.get("/readyz", also=503)
        if "dependencies" not in found and self._headers:
            self.get("/")  # /readyz answers a key that counts for nobody as it answers none, and this refuses it
        return {"well": found.get("status") == "ready", "api": self.url, **found}

    def _ask(self, method: str, path: str, body: bytes | None) -> tuple[int, str, bytes]:
        """The status, the media type and the body."""
        kind = HTTPSConnection if self._where.scheme == "https" else HTTPConnection
        try:
            with closing(kind(self._where.netloc, timeout=self._timeout)) as connection:
                headers = self._headers if method == "GET" else self._headers | WAITING
                connection.request(method, f"{self._where.path.rstrip('/')}{path}", body, headers)
                answer = connection.getresponse()
                return answer.status, answer.headers.get_content_type(), answer.read()
        except (OSError, HTTPException) as error:
            raise Refused(f"{self.url} gives no answer: {_why(error)}") from None


def shown(status: dict[str, Any]) -> RenderableType:
    """The status of an API elsewhere, as people read it."""
    parts: list[RenderableType] = [table("API", "state", rows=[(status["api"], str(status.get("status")))])]
    if "dependencies" not in status:
        return Group(*parts, "", BARE)
    parts += ["", table("dependency", "state", rows=status["dependencies"].items())]
    rows = [
        (name, f"{each['position']:,}", f"{each['lag']:,}", state(each)) for name, each in status["projections"].items()
    ]
    return Group(*parts, "", table("projection", "position", "events behind", "state", rows=rows))


def _checked(url: str, given_by: str) -> str:
    """The URL, if it is one at which an API can be asked. Raises Refused."""
    with suppress(ValueError):
        where = urlsplit(url)
        of_an_api = where.scheme in {"http", "https"} and where.hostname and not where.username and where.port != 0
        if of_an_api and url.isascii() and url.isprintable() and " " not in url:
            return url
    raise Refused(f"{given_by} takes a URL like http://127.0.0.1:8000, and {url!r} is none")


def _text_of(key: SecretStr) -> str:
    text = key.get_secret_value().strip()
    if not text.isascii() or not text.isprintable() or " " in text:
        raise Refused("CQRS_API_KEY is no key and no token: it has characters that neither has")
    return text


@cache
def _warn(url: str) -> None:
    complain(f"whoever is on the way to {url} can read the key: use https")


def _why(error: Exception) -> str:
    if isinstance(error, SSLCertVerificationError):
        return f"its certificate is not valid: {error.verify_message}"
    if isinstance(error, SSLError):
        return "no agreement on TLS"
    return "no HTTP" if isinstance(error, HTTPException) else reason_of(error)
