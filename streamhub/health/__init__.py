"""Facts about a running hub, and doctor's checks."""
