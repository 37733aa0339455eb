"""What is installed in an image, found out by reading its files, as an SPDX document."""
