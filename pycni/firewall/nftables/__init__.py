"""The nftables backend: one table, in which pods are elements of sets and maps."""
