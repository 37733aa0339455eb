"""A program that a build installs into a virtual environment."""
