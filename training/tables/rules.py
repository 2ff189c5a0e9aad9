"""The update rules of tables by name. A rule is a file of this folder and a line here."""

from __future__ import annotations

from nightjar.training.tables.adagrad import ADAGRAD, ROW_ADAGRAD
from nightjar.training.tables.adam import ADAM, LAZY_ADAM
from nightjar.training.tables.ftrl import FTRL

RULES = {rule.name: rule for rule in (FTRL, ADAGRAD, ROW_ADAGRAD, LAZY_ADAM, ADAM)}
WIDE_RULES = tuple(rule.name for rule in RULES.values() if rule.of_wide)
EMBEDDING_RULES = tuple(rule.name for rule in RULES.values() if rule.of_embeddings)
