"""What a route asks of a token that is valid. A route hands one of these rules to `admitted`.

A rule gets the claims and the slug of the path, and raises ApiError (401, 403) where the token may not.
"""

from collections.abc import Callable

from streamhub.web.auth import Claims
from streamhub.web.problems import ApiError, Fault, unauthorized

Rule = Callable[[Claims, str], None]


def integration(claims: Claims, slug: str) -> None:
    """The live stream and replays: an integration's token, of this enterprise organization."""
    if claims.kind != "integration":
        raise unauthorized(
            "NOT_INTEGRATION",
            f"The token's application is of kind {claims.kind[:100]!r}; this route needs 'integration'.",
        )
    if claims.slug != slug:
        raise mismatch(f"The path names the organization {slug!r}; the token is for {claims.slug[:100]!r}.")
    if not claims.enterprise:
        raise ApiError(Fault("NOT_ENTERPRISE", f"The organization {slug!r} is not enterprise by its token."))


def any_scope(*names: str) -> Rule:
    """A token of this organization with one of these scopes."""

    def rule(claims: Claims, slug: str) -> None:
        if claims.slug != slug:
            raise mismatch(f"The path names the organization {slug!r}; the token is for {claims.slug[:100]!r}.")
        if claims.scopes.isdisjoint(names):
            has = ", ".join(sorted(claims.scopes))[:100] or "none"
            raise ApiError(
                Fault("MISSING_SCOPE", f"The route needs the scope {' or '.join(names)}; the token has {has}.")
            )

    return rule


events_read = any_scope("analytics:read", "events:read")


def mismatch(detail: str) -> ApiError:
    """403."""
    return ApiError(Fault("ORGANIZATION_MISMATCH", detail))
