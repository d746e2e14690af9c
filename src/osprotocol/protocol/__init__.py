"""The shapes of the protocol, one file for each of its pages."""
