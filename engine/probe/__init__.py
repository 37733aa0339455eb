"""What this machine lets a container engine do, found out by doing it, and what to make of it."""
