"""imgtools moves, inspects, builds and signs container images without a daemon or root."""
