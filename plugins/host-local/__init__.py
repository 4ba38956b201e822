"""host-local: an IPAM plugin that leases addresses from ranges of this node's own."""
