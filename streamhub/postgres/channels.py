"""The names of the hub's channels of notifications, which no role but the hub's can read.

Any role of a database may NOTIFY on a channel that it can name. So the names are drawn when the hub's schema is made.
"""

from typing import Final

CHANNELS: Final = "SELECT appends, organizations, webhooks FROM streamhub_hub.channels"
"""One row, for other statements to embed."""
