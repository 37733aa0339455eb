"""Containers made from images: what is asked for, the config.json that follows, and the run."""
