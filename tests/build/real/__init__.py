"""Ten real builds, ours beside another program's of the same; `scripts/real-builds` runs them."""
