"""System call filters: from `linux.seccomp` to a program that the kernel runs.

compiler.py makes the program (needed only if cache.py has none), load.py installs it,
default_profile.py holds the rules for containers that bring none of their own.
"""
