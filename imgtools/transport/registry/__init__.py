"""Registries: the distribution-spec client."""
