"""Root emulation where only one id is mapped: programs may believe that they change owners.

filters.py has the two modes. "fake" answers success and forgets; it needs no process beside the
container. "record" has a recorder (recorder.py) note what was asked for, so that layers carry
it; notes.py keeps the notes on disk while the container runs.
"""
