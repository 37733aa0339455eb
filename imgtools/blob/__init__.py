"""How bytes move: verifying readers, the copy loop, compression, tar, and a blob store.

Nothing here knows names or networks.
"""
