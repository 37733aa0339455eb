"""Where images live: registries, layouts, archives and directories, each both ways."""
