"""The container's file system: what is mounted where, decided first and then carried out."""
