"""Disks that lose power: what was written and synced, in order, and what a disk may hold after the cut."""
