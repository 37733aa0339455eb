"""Looking at images where they are: summaries, platforms, layers, files, differences."""
