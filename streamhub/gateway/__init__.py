"""What clients connect to: tokens, leases, live streams, replays and the pages for operators."""
