"""The portmap plugin: publish ports of a container on the node."""
