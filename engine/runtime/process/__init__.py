"""What a container's process is given last: terminal, limits, labels, credentials, its program."""
