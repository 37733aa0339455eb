"""The project's rules for its own sources, as tests: a rule without a check grows back."""
