"""Ignore files and the patterns of COPY: what of a context a build does not see."""
