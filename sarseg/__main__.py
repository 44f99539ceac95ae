"""`python -m sarseg` is the command `sarseg`."""

from sarseg.cli.main import main

if __name__ == "__main__":
    main()
