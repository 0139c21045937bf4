"""`python -m streamhub`: the command line."""

from streamhub.cli import main

if __name__ == "__main__":
    main(prog_name="streamhub")
