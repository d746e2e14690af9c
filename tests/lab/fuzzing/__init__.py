"""Targets of the byte fuzzer, what mutates their inputs, and what watches while they run."""

from tests.lab.fuzzing import remote, requests, rows, values, words

TARGETS = (*values.TARGETS, *words.TARGETS, *remote.TARGETS, *requests.TARGETS, *rows.TARGETS)
