"""Results of earlier builds that live in registries, beside those of the store."""
