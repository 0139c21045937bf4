"""Live streams: one consumer an organization, its lease and its cursor."""
