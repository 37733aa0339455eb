"""Features of the Containerfile language, each proved by a build: `kit` builds, the tests say
what has to come of it."""
