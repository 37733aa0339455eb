"""OpenPGP: simple signing messages, made and verified with GnuPG in homes of our own."""
