"""The kernel, without policy: namespaces, interfaces, addresses, kernel parameters."""
