"""The bridge plugin: put a container on a Linux bridge."""
