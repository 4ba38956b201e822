"""The iptables backend: chains of rules, with addresses in ipsets."""
