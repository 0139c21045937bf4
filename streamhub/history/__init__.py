"""History: the one truth, in PostgreSQL. The relay appends to it; everything else reads pages of it."""
