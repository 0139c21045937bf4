"""Leases: what a process holds for as long as it is alive, and every statement on their tables.

    leader    the lease of the relay that leads
    nodes     the processes of gateways; a node that has expired holds nothing
    node      this process among them: its renewal, and how long it may be trusted
    streams   the live streams, each held by a node, with their consumers' cursors
    held      those that this process holds: taking, releasing, keeping cursors
    endings   ending a live stream from outside
    jobs      the replays, each run by a node

core/lease.py has the rules as a table. Whether a lease is alive is `streamhub_hub.lease_holds` in every statement. All
times here are the database's. Trust alone is counted on CLOCK_BOOTTIME, which goes on while the process is stopped or
the machine sleeps: a process that wakes up late knows that it is late.
"""
