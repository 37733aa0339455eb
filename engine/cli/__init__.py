"""imgtools-runtime: the command line of the OCI runtime, and the only reader of its arguments,
environment and standard streams."""
