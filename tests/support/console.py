"""A visitor of the console without JavaScript: it keeps cookies, and sends forms as a browser does."""

import re
from html import unescape
from typing import Self

import httpx

from shared.access.keys import Key


class Visitor:
    """Signs in with a key, if the service asks for one."""

    def __init__(self, url: str, key: Key | None = None) -> None:
        self.http = httpx.Client(base_url=url, timeout=35)
        if key:
            answer = self.submit("/console/sign-in", "/console/sign-in", key=key.text)
            assert answer.status_code == 303, answer.text

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.http.close()

    def text(self, path: str) -> str:
        """The page, which must be there."""
        answer = self.http.get(path)
        assert answer.status_code == 200, answer.text
        return answer.text

    def token(self, page: str) -> str:
        """The token of the forms on a page."""
        found = re.search(r'name="token" value="([0-9a-f]+)"', self.http.get(page).text)
        assert found, page
        return unescape(found[1])

    def submit(self, page: str, action: str, **fields: str) -> httpx.Response:
        """Send a form of a page; where it leads is not followed."""
        return self.post(action, token=self.token(page), **fields)

    def post(self, action: str, *, origin: str | None = None, **fields: str) -> httpx.Response:
        """Send a form as a page of this origin would, by default one of ours."""
        origin = str(self.http.base_url).rstrip("/") if origin is None else origin
        return self.http.post(action, data=fields, headers={"Origin": origin})
