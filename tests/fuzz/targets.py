"""All that is fuzzed, by name."""

from __future__ import annotations

from tests.fuzz import answers, batches, reading, words

TARGETS = {target.name: target for target in (*reading.TARGETS, *answers.TARGETS, *words.TARGETS, *batches.TARGETS)}
