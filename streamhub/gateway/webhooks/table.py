"""The routes of webhook endpoints, as the router and the reference take them."""

from typing import Final

from streamhub.gateway.webhooks import answers, routes
from streamhub.web.route import ORGANIZATION, Route
from streamhub.web.scopes import webhooks_manage

ENDPOINTS: Final = f"{ORGANIZATION}/webhooks"
ENDPOINT: Final = ENDPOINTS + "/{endpoint:[^/]+}"
GROUP: Final = "Webhooks"

ROUTES: Final[tuple[Route, ...]] = (
    Route(
        "GET", ENDPOINTS, routes.list_endpoints,
        name="listWebhooks", group=GROUP, summary="List webhook endpoints", rule=webhooks_manage,
        answers=[answers.LISTED],
    ),
    Route(
        "POST", ENDPOINTS, routes.create,
        name="createWebhook", group=GROUP, summary="Register a webhook endpoint", rule=webhooks_manage,
        description="It gets what is published from now on, in the token's environment.",
        body=answers.NEW, answers=[answers.CREATED],
    ),
    Route(
        "GET", ENDPOINT, routes.show,
        name="getWebhook", group=GROUP, summary="Show a webhook endpoint", rule=webhooks_manage,
        answers=[answers.SHOWN],
    ),
    Route(
        "PATCH", ENDPOINT, routes.change,
        name="changeWebhook", group=GROUP, summary="Change a webhook endpoint", rule=webhooks_manage,
        description="What is not named stays as it is.",
        body=answers.CHANGE, answers=[answers.CHANGED],
    ),
    Route(
        "DELETE", ENDPOINT, routes.delete,
        name="deleteWebhook", group=GROUP, summary="Delete a webhook endpoint", rule=webhooks_manage,
        answers=[answers.DELETED],
    ),
    Route(
        "POST", f"{ENDPOINT}/enable", routes.enable,
        name="enableWebhook", group=GROUP, summary="Enable a webhook endpoint", rule=webhooks_manage,
        description="What came while it was disabled is delivered.", answers=[answers.SHOWN],
    ),
    Route(
        "POST", f"{ENDPOINT}/disable", routes.disable,
        name="disableWebhook", group=GROUP, summary="Disable a webhook endpoint", rule=webhooks_manage,
        description="What comes is kept.", answers=[answers.SHOWN],
    ),
    Route(
        "POST", f"{ENDPOINT}/test", routes.test,
        name="testWebhook", group=GROUP, summary="Send a test event", rule=webhooks_manage,
        answers=[answers.TEST_SENT], codes=["ENDPOINT_DISABLED", "INVALID_ENDPOINT"],
    ),
    Route(
        "POST", f"{ENDPOINT}/rotate-secret", routes.rotate_secret,
        name="rotateWebhookSecret", group=GROUP, summary="Replace the secret", rule=webhooks_manage,
        answers=[answers.ROTATED], codes=["TOO_MANY_SECRETS"],
    ),
    Route(
        "POST", f"{ENDPOINT}/recover", routes.recover, routes.RECOVER_PARAMETERS,
        name="recoverWebhook", group=GROUP, summary="Deliver what failed", rule=webhooks_manage,
        description="Delivers again what has failed since a time, and what came while the endpoint was disabled; "
        "enables it.",
        answers=[answers.RECOVERING],
    ),
    Route(
        "GET", f"{ENDPOINT}/deliveries", routes.deliveries, routes.DELIVERIES_PARAMETERS,
        name="listDeliveries", group=GROUP, summary="List deliveries", rule=webhooks_manage,
        answers=[answers.DELIVERIES],
    ),
    Route(
        "POST", ENDPOINT + "/deliveries/{delivery:[^/]+}/retry", routes.retry,
        name="retryDelivery", group=GROUP, summary="Deliver once more", rule=webhooks_manage,
        answers=[answers.RETRIED], codes=["ENDPOINT_DISABLED"],
    ),
)  # fmt: skip
