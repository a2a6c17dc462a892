"""Run the command `trioflow`, for `python -m trioflow`."""

from .cli import main

if __name__ == "__main__":
    main()
