"""What becomes of a finished build: images in a store or registry, files, attestations."""
