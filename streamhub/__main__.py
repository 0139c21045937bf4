"""`streamhub` and `python -m streamhub`: the command line, or a sentence about the missing extra."""

import sys

from streamhub.extras import install


def main() -> None:
    try:
        from streamhub.cli import main as command  # noqa: PLC0415 - needs an extra

        command(prog_name="streamhub")
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "streamhub":
            raise
        sys.exit(f"streamhub: the command needs {error.name}, which is not installed: {install('server')}")


if __name__ == "__main__":
    main()
