"""The engine on Restate: a ledger that Restate keeps, and copies of it that the embedded engine works on."""
