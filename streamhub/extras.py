"""What is installed by the name of an extra alone."""


def install(extra: str) -> str:
    """How to get it, for messages; the package is on no index."""
    return f"in a checkout of Streamhub, pip install '.[{extra}]'"
