"""What is kept on the node: files, locks, records, claims and leases."""
