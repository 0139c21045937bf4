"""The demo: a sample shop with traffic, the hub, and a view of what comes out of it."""
