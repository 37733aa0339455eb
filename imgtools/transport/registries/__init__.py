"""containers-registries.conf(5): which endpoints serve a reference, and what a short name means.

`model` is the configuration as data, `parse` and `merge` make it of documents, `files` finds
and reads them, `match` and `short_names` decide. Only `files` touches the file system.
"""
