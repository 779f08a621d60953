"""`python -m streamcnn` is `streamcnn`."""

import sys


def main() -> None:
    """Run the command line; an interrupt while it is still being loaded is an interrupt too."""
    try:
        from streamcnn.cli import main as run
    except KeyboardInterrupt:
        sys.exit(130)
    run()


if __name__ == "__main__":
    main()
