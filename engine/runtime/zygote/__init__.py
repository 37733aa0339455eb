"""The launcher: a small process from which containers are forked, so that none pays for the
start of an interpreter. `client` is what the engine uses, `server` what runs over there."""
