"""The image specifications as data: OCI image-spec and Docker distribution v2.

Everything here is pure. No file is opened and no socket is used; values are frozen and
parsing keeps the bytes that were received.
"""
