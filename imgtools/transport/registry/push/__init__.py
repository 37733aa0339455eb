"""Writing to a registry: uploads that survive interruptions, manifests, tags."""
