"""An application that receives webhooks and believes none that is not signed.

    streamhub webhook add http://127.0.0.1:3000/webhooks --org my-org --events '*'    # the hub delivers
    streamhub listen --forward-to 127.0.0.1:3000/webhooks        # or, for as long as it runs; both print the secret
    WEBHOOK_SECRET=whsec_… python examples/webhook_receiver.py --port 3000

While a secret is being replaced, or for both, name several, separated by a space.
"""

import argparse
import os

from aiohttp import web

from streamhub.client import InvalidSignature, verify_webhook

SECRETS = os.environ.get("WEBHOOK_SECRET", "").split()
handled: set[str] = set()  # ids; an application of several processes keeps them in its database


async def receive(request: web.Request) -> web.Response:
    """2xx says that it was handled: the hub does not send it again."""
    try:
        event = verify_webhook(await request.read(), request.headers, SECRETS)
    except InvalidSignature as error:
        print(f"refused: {error}", flush=True)
        return web.Response(status=400, text=str(error))
    if event["id"] not in handled:  # an event may be delivered twice
        data = event["data"] if isinstance(event["data"], dict) else {}  # a published event's own may be any JSON
        print(f"{event['type']}  {data.get('resource_id')}  {data.get('delta')}", flush=True)
        handled.add(event["id"])
    return web.Response(status=204)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, default=3000)
    application = web.Application(client_max_size=32 * 1024 * 1024)
    application.router.add_post("/webhooks", receive)
    options = parser.parse_args()
    if not SECRETS:
        parser.error("set WEBHOOK_SECRET to what streamhub webhook add, or listen --forward-to, prints: whsec_…")
    web.run_app(application, host="127.0.0.1", port=options.port)
