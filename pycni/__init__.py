"""What the suite of plugins shares, and its programs. Private: only `cni` is for everybody.

The rooms, from the top: cli and agent; attach; firewall and migrate; state. A room imports only
rooms below it, and `cni`; tests/unit/test_rooms.py holds that.
"""
