"""The command line: the only readers of arguments and environment."""
