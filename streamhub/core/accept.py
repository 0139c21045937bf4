"""Headers that weigh what a client takes: Accept, Accept-Encoding (RFC 9110, section 12.4.2)."""

from collections.abc import Mapping


def weights(header: str) -> Mapping[str, float]:
    """Each name in lower case with its weight, in the order of their first mention: 1 unless the client says another
    `q`, 0 where that is no number. Other parameters play no part."""
    found: dict[str, float] = {}
    for part in header.split(","):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        if not name:
            continue
        found[name] = 1.0
        for parameter in parameters:
            if parameter.startswith("q="):
                try:
                    found[name] = float(parameter[2:])
                except ValueError:
                    found[name] = 0.0
    return found
