"""An OCI runtime of its own: it imports nothing of imgtools, and little of Python."""
