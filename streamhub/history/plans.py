"""Planner settings of every session that reads history or an outbox.

Each of our hot queries has an index that gives its rows in order, from where it begins to where it ends. Statistics
that are missing or old, and the price of a random page, make the planner prefer to collect everything that is left
and sort it, for each page again. So ways to do that are put last; where there is no other way, they are still taken.
"""

from typing import Final

INDEX_ORDER: Final = {
    "enable_seqscan": "off",
    "enable_bitmapscan": "off",
    "enable_sort": "off",
    "enable_incremental_sort": "off",
    "max_parallel_workers_per_gather": "0",
    "jit": "off",  # before PostgreSQL 18 a plan that was put last costs so much that it would be compiled
}
