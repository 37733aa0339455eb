"""Containers: snapshots and an OCI runtime."""
