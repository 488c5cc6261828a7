"""`python -m kinescribe`: the command line without an installation."""

from kinescribe.cli import main

if __name__ == "__main__":
    main()
