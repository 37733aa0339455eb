"""Real images, real registries, real processes, and skopeo and umoci to judge the outcome."""
