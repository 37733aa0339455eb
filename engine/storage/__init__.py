"""Where images live once they are unpacked: layers, snapshots, and an index of both."""
