"""`python -m trioflow` is the command `trioflow`."""

from .cli import main

if __name__ == "__main__":
    main()
