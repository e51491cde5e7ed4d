"""`python -m scionlab` is the command `scionlab`."""

from scionlab.cli import main

if __name__ == "__main__":
    main()
