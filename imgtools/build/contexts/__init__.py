"""Where a build's files come from: directories, archives, git repositories and URLs."""
