"""Control groups: what the host has, what a container gets of it, and the life of its cgroups."""
