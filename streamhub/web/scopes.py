"""What a route asks of a token that is valid. A route hands one of these rules to `admitted`.

A rule gets the claims and the slug of the path, and raises ApiError (401, 403) where the token may not.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from streamhub.web.auth import Claims
from streamhub.web.problems import ApiError, Fault, unauthorized


class Rule(Protocol):
    """`codes`: what it refuses with. `roles`: what a token needs one of; `means` says so in a sentence."""

    @property
    def codes(self) -> Sequence[str]: ...
    @property
    def roles(self) -> Sequence[str]: ...
    @property
    def means(self) -> str: ...

    def __call__(self, claims: Claims, slug: str) -> None: ...


class Integration(NamedTuple):
    """The live stream and replays: an integration's token, of this enterprise organization."""

    codes: Sequence[str] = ("NOT_INTEGRATION", "ORGANIZATION_MISMATCH", "NOT_ENTERPRISE")
    roles: Sequence[str] = ("integration",)
    means: str = "It needs a token with `application.kind` = `integration` of an enterprise organization; no API key."

    def __call__(self, claims: Claims, slug: str) -> None:
        if claims.api_key is not None:
            raise unauthorized(
                "NOT_INTEGRATION", "An API key does not open this route: it needs an integration's token."
            )
        if claims.kind != "integration":
            raise unauthorized(
                "NOT_INTEGRATION",
                f"The token's application is of kind {claims.kind[:100]!r}; this route needs 'integration'.",
            )
        if claims.slug != slug:
            raise mismatch(f"The path names the organization {slug!r}; the token is for {claims.slug[:100]!r}.")
        if not claims.enterprise:
            raise ApiError(Fault("NOT_ENTERPRISE", f"The organization {slug!r} is not enterprise by its token."))


class AnyScope(NamedTuple):
    """A token of this organization with one of these scopes."""

    roles: Sequence[str]
    codes: Sequence[str] = ("ORGANIZATION_MISMATCH", "MISSING_SCOPE")

    @property
    def means(self) -> str:
        return f"It needs a token or an API key with the scope {' or '.join(f'`{name}`' for name in self.roles)}."

    def __call__(self, claims: Claims, slug: str) -> None:
        if claims.slug != slug:
            raise mismatch(f"The path names the organization {slug!r}; the token is for {claims.slug[:100]!r}.")
        if claims.scopes.isdisjoint(self.roles):
            has = ", ".join(sorted(claims.scopes))[:100] or "none"
            raise ApiError(
                Fault("MISSING_SCOPE", f"The route needs the scope {' or '.join(self.roles)}; the token has {has}.")
            )


def any_scope(*names: str) -> AnyScope:
    return AnyScope(names)


integration: Final = Integration()
events_read = any_scope("analytics:read", "events:read")
events_write = any_scope("events:write")
webhooks_manage = any_scope("webhooks:manage")


def mismatch(detail: str) -> ApiError:
    """403."""
    return ApiError(Fault("ORGANIZATION_MISMATCH", detail))
