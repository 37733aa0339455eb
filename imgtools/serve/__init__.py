"""A folder of OCI layouts offered as a registry."""
