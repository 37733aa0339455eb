"""`python -m engine.cli`: imgtools-runtime without its launch script."""

from engine.cli.main import entry

if __name__ == "__main__":
    entry()
