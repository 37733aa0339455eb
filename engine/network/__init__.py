"""Networks of containers without privileges of our own: the host's, none, or one behind pasta
or slirp4netns; and the files in /etc that belong to them."""
