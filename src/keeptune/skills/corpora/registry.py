"""The example corpora by name."""

from __future__ import annotations

from keeptune.skills.corpora.corpus import Corpus
from keeptune.skills.corpora.customer_mail import CUSTOMER_MAIL
from keeptune.skills.corpora.order_texts import ORDER_TEXTS
from keeptune.skills.corpora.table_questions import TABLE_QUESTIONS

CORPORA: dict[str, Corpus] = {corpus.name: corpus for corpus in (CUSTOMER_MAIL, ORDER_TEXTS, TABLE_QUESTIONS)}
