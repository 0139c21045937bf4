"""The processes of gateways: a row each, renewed by its process and gone an hour after it expired."""

from typing import Final

HOLDS: Final = "streamhub_hub.lease_holds(node.expires_at)"
"""Whether `node`, a row of NODES, is alive."""

REGISTER: Final = """
INSERT INTO streamhub_hub.nodes (id, host, pid, expires_at) VALUES ($1, $2, $3, clock_timestamp() + $4)
ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at
"""
RENEW: Final = """
UPDATE streamhub_hub.nodes SET expires_at = clock_timestamp() + $2
 WHERE id = $1 AND streamhub_hub.lease_holds(expires_at) RETURNING true
"""
FORGET: Final = "DELETE FROM streamhub_hub.nodes WHERE id = $1"
SWEEP: Final = """
DELETE FROM streamhub_hub.nodes
 WHERE expires_at NOT BETWEEN clock_timestamp() - interval '1 hour' AND clock_timestamp() + interval '1 hour'
"""
NODES: Final = "SELECT id, host, pid, expires_at FROM streamhub_hub.nodes"
ALIVE: Final = f"SELECT id FROM ({NODES}) AS node WHERE {HOLDS}"
SEEN: Final = f"""
SELECT host, pid, {HOLDS} AS alive,
       greatest(0, extract(epoch FROM clock_timestamp())::float8 - extract(epoch FROM expires_at)::float8) AS gone
  FROM ({NODES}) AS node ORDER BY alive DESC, least(expires_at, now()) DESC, host, pid
"""
