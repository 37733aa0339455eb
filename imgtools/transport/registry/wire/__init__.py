"""HTTP on a network that is not to be trusted: connections, proxies, TLS, guards and rates."""
