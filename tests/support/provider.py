"""A small identity provider: discovery, keys that rotate, tokens, and the trouble that providers make."""

import json
import ssl
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

from shared.settings import Settings

AUDIENCE = "users-api"

Answer = Callable[[BaseHTTPRequestHandler], None]

MAKE: dict[str, Callable[[], Any]] = {
    "RS256": lambda: rsa.generate_private_key(65537, 2048),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
    "short": lambda: rsa.generate_private_key(65537, 1024),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
}
"""What makes a private key, by the algorithm that it is for."""


@cache
def private(kind: str, which: str = "") -> Any:
    """The private key of a kind with this name, made once."""
    return MAKE[kind]()


def jwk(key: Any, kid: str, **more: Any) -> dict[str, Any]:
    """The public half of a key as a JSON Web Key; a member that is None is left out."""
    public: Any = key.public_key()
    algorithm: Any = RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else OKPAlgorithm
    if isinstance(key, ec.EllipticCurvePrivateKey):
        algorithm = ECAlgorithm
    members = {**algorithm.to_jwk(public, as_dict=True), "kid": kid, "use": "sig", **more}
    return {name: value for name, value in members.items() if value is not None}


class IdentityProvider:
    """A provider at `issuer`. `asked` counts its requests by path; `answers` are answers in the place of its own."""

    def __init__(self, url: str, path: str = "") -> None:
        self.url, self.issuer = url, url + path
        self.keys: list[dict[str, Any]] = [jwk(private("ES256"), "es")]
        self.document: dict[str, Any] = {"issuer": self.issuer, "jwks_uri": f"{url}/keys"}
        self.asked: Counter[str] = Counter()
        self.answers: dict[str, Answer] = {}

    @property
    def fetches(self) -> int:
        """How often the keys were fetched."""
        return self.asked["/keys"]

    def settings(self, **more: Any) -> Settings:
        """Settings that name this provider."""
        own = {"oidc_issuer": self.issuer, "oidc_audience": AUDIENCE, "_env_file": None}
        return Settings(**{**own, **more})

    def claims(self, **more: Any) -> dict[str, Any]:
        """The claims of a token that counts for five minutes; a claim that is None is left out."""
        now = int(time.time())
        own = {"iss": self.issuer, "aud": AUDIENCE, "sub": "u-1", "iat": now, "exp": now + 300, "roles": ["reader"]}
        return {name: value for name, value in {**own, **more}.items() if value is not None}

    def token(
        self, key: Any = None, kid: str | None = "es", algorithm: str = "ES256", *, header: Any = (), **claims: Any
    ) -> str:
        """A token. Without a key it is the provider's own, `es`."""
        named = {} if kid is None else {"kid": kid}
        body = json.dumps(self.claims(**claims)).encode()
        return jwt.PyJWS().encode(body, key or private("ES256"), algorithm, headers=named | dict(header))


@contextmanager
def running_provider(path: str = "", certificate: Path | None = None) -> Iterator[IdentityProvider]:
    """A provider whose issuer has this path; by https, at localhost, if it has a certificate."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            provider.asked[self.path] += 1
            own = {"/keys": {"keys": provider.keys}, described: provider.document}
            if answer := provider.answers.get(self.path):
                answer(self)
            elif self.path in own:
                answered(200, json.dumps(own[self.path]).encode())(self)
            else:
                answered(404)(self)

        def log_message(self, *_: Any) -> None:
            pass

    described = f"{path.rstrip('/')}/.well-known/openid-configuration"
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        server.block_on_close = False
        url = f"http://127.0.0.1:{server.server_port}"
        if certificate:
            context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
            url = f"https://localhost:{server.server_port}"
        provider = IdentityProvider(url, path)
        thread = Thread(target=server.serve_forever, args=[0.01])
        thread.start()
        yield provider
        server.shutdown()
        thread.join()


def certificate_of(host: str, folder: Path) -> Path:
    """A file with a certificate for this host, which signs itself, and its key."""
    key, name = private("ES256", "of the certificate"), x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file = folder / f"{host}.pem"
    file.write_bytes(secret + certificate.public_bytes(Encoding.PEM))
    return file


def answered(status: int, body: bytes = b"", **headers: str) -> Answer:
    """An answer with this status and body."""

    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.end_headers()
        handler.wfile.write(body)

    return answer


def dripping(handler: BaseHTTPRequestHandler) -> None:
    """An answer that never ends: a byte now and then."""
    handler.send_response(200)
    handler.end_headers()
    with suppress(OSError):
        while True:
            handler.wfile.write(b" ")
            time.sleep(0.01)


def dripping_head(handler: BaseHTTPRequestHandler) -> None:
    """An answer whose head takes three seconds: a byte now and then."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nX: ")
    with suppress(OSError):
        for _ in range(300):
            handler.wfile.write(b"x")
            time.sleep(0.01)


def silent(_: BaseHTTPRequestHandler) -> None:
    """No answer, for three seconds."""
    time.sleep(3)
