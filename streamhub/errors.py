"""What is raised for a person at a terminal to read. What goes into an HTTP response is in web/problems.py.

Exception
├── UserError    one sentence; the command line prints it and exits 1
└── ApiError     (web/problems.py) one or more Faults of one request, rendered as application/vnd.api+json
"""


class UserError(Exception):
    """One sentence for a person: what was wrong, the value, and what would be right."""
