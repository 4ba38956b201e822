"""Other firewalls of the node: what they would drop of ours, and how they let it pass."""
