"""`python -m imgtools` is the same command as `imgtools`."""

from imgtools.cli.main import main

if __name__ == "__main__":
    main()
