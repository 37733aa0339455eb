"""System calls by ctypes: each a typed function that raises OSError, and nothing more."""
