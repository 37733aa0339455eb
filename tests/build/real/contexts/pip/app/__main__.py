"""Says who runs it."""

import os

print("hello from uid", os.getuid())
