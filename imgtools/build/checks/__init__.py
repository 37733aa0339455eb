"""Build checks: what in a Containerfile works, or nearly, and should be written otherwise."""
