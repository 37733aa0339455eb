"""Reading from a registry and its mirrors."""
