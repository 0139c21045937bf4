"""Messages about extras that are not installed."""


def install(extra: str) -> str:
    """How to install the extra. The package is on no index."""
    return f"in a checkout of Streamhub, pip install '.[{extra}]'"
