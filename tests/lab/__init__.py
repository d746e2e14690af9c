"""The reliability lab: harnesses that look for violations of the guarantees in docs/guarantees.md.

`make lab` runs all of them at full size; `make test` runs a small share of each.
"""
