"""The HTTP API, version 1: one module for each kind of thing. docs/http-api.md is made from it."""
