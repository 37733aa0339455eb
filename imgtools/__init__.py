"""imgtools moves, inspects, builds and signs container images without a daemon or root."""

__version__ = "0.1.0"
