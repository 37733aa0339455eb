"""Serves images to another program over a socket, by the protocol of skopeo's image proxy."""
