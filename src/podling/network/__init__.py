"""Addresses, services, DNS, host ports and egress of the node."""
