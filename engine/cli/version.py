"""The version of the command; a test keeps it equal to the package's."""

VERSION = "0.1.0"
