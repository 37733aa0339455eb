"""The engine's half of builds: layers and trees for `imgtools.build`, and containers for RUN."""
