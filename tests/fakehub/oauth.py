"""The hub as OpenID Connect provider: discovery, authorize, token with PKCE, userinfo and signed identity tokens.

Whoever `user` names is taken to sit at the browser and to agree to everything at once.
"""

from __future__ import annotations

import base64
import hashlib
import json
import secrets
import time
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import parse_qs, unquote, urlencode

from joserfc import jwt
from joserfc.jwk import RSAKey

CLIENT_ID, CLIENT_SECRET = "rlviz-test", "rlviz-test-secret"
LIFE_S = 8 * 3600

Answer = tuple[int, dict[str, str], bytes]


@dataclass(frozen=True, slots=True)
class Grant:
    """What an authorization code stands for until it is used."""

    user: str
    redirect_uri: str
    challenge: str
    nonce: str | None


@dataclass(slots=True, eq=False)
class Browser:
    """Who is at the browser: their name, and the access token that agreeing gives out; None turns the visitor away."""

    user: str | None = None
    token: str = ""


@dataclass(eq=False)
class Provider:
    """The provider of one fake hub, answering below its endpoint."""

    issuer: str
    browser: Browser = field(default_factory=Browser)
    grants: dict[str, Grant] = field(default_factory=dict)
    scopes: list[str] = field(default_factory=list)

    @cached_property
    def key(self) -> RSAKey:
        return RSAKey.generate_key(2048, {"use": "sig", "alg": "RS256"}, auto_kid=True)

    def answer(self, method: str, path: str, query: str, body: bytes, authorization: str | None) -> Answer | None:
        """The answer to a request of the sign-in, or None for any other path."""
        asked = {name: values[0] for name, values in parse_qs(query or body.decode("latin-1")).items()}
        if path == "/.well-known/openid-configuration":
            return _json(200, self.discovery())
        if path == "/oauth/authorize":
            return self.authorize(asked)
        if path == "/oauth/token" and method == "POST":
            return self.token(asked, authorization)
        if path == "/oauth/userinfo":
            return self.userinfo(authorization)
        if path == "/oauth/jwks":
            return _json(200, {"keys": [self.key.as_dict(private=False)]})
        return None

    def discovery(self) -> dict[str, Any]:
        return {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/oauth/authorize",
            "token_endpoint": f"{self.issuer}/oauth/token",
            "userinfo_endpoint": f"{self.issuer}/oauth/userinfo",
            "jwks_uri": f"{self.issuer}/oauth/jwks",
            "scopes_supported": ["openid", "profile", "email", "read-repos", "gated-repos"],
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "code_challenge_methods_supported": ["S256"],
        }

    def authorize(self, asked: dict[str, str]) -> Answer:
        if asked.get("client_id") != CLIENT_ID or asked.get("code_challenge_method") != "S256":
            return _json(400, {"error": "invalid_request"})
        self.scopes.append(asked.get("scope", ""))
        back = {"state": asked["state"]}
        if self.browser.user is None:
            back["error"] = "access_denied"
        else:
            back["code"] = secrets.token_urlsafe(16)
            redirect, challenge = asked["redirect_uri"], asked["code_challenge"]
            self.grants[back["code"]] = Grant(self.browser.user, redirect, challenge, asked.get("nonce"))
        return 302, {"Location": f"{asked['redirect_uri']}?{urlencode(back)}"}, b""

    def token(self, asked: dict[str, str], authorization: str | None) -> Answer:
        if _client(asked, authorization) != (CLIENT_ID, CLIENT_SECRET):
            return _json(401, {"error": "invalid_client"})
        grant = self.grants.pop(asked.get("code", ""), None)  # good for once
        digest = hashlib.sha256(asked.get("code_verifier", "").encode()).digest()
        verified = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
        if grant is None or grant.challenge != verified or grant.redirect_uri != asked.get("redirect_uri"):
            return _json(400, {"error": "invalid_grant"})
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": CLIENT_ID, "iat": now, "exp": now + LIFE_S, **_person(grant.user)}
        if grant.nonce:
            claims["nonce"] = grant.nonce
        signed = jwt.encode({"alg": "RS256", "kid": self.key.kid}, claims, self.key)
        said = {"access_token": self.browser.token, "token_type": "bearer", "expires_in": LIFE_S, "id_token": signed}
        return _json(200, said)

    def userinfo(self, authorization: str | None) -> Answer:
        if self.browser.user is None or authorization != f"Bearer {self.browser.token}":
            return _json(401, {"error": "invalid_token"})
        return _json(200, _person(self.browser.user))


def _person(user: str) -> dict[str, str]:
    return {"sub": hashlib.sha1(user.encode()).hexdigest(), "name": user.title(), "preferred_username": user}


def _client(asked: dict[str, str], authorization: str | None) -> tuple[str, str]:
    """Id and secret, from the Basic header or the form."""
    if authorization and authorization.startswith("Basic "):
        name, _, secret = base64.b64decode(authorization.removeprefix("Basic ")).decode().partition(":")
        return unquote(name), unquote(secret)
    return asked.get("client_id", ""), asked.get("client_secret", "")


def _json(status: int, content: object) -> Answer:
    return status, {"Content-Type": "application/json"}, json.dumps(content).encode()
