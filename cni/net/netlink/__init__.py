"""Netlink: the socket, attributes, and a module for each kernel subsystem that we speak to."""
