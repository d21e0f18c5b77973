"""Label Studio's settings, and what lets several people share one queue on SQLite.

    PYTHONPATH=backend/label_studio_settings DJANGO_SETTINGS_MODULE=tiebreak_label_studio \\
        label-studio start

On SQLite, Label Studio looks for a task that nobody has and reserves it in two steps, so that two
people who ask at once are given the same one. Here they take turns. And the database is told to
wait for a lock instead of failing at once, which Label Studio answers by sleeping a second or more,
with the turn held. On PostgreSQL, which needs none of this, these are Label Studio's own settings.
"""

# ruff: noqa: E402, F403, F405
# mypy: ignore-errors

import os

import django

# Label Studio reads its settings once while it makes them, from the module that is named here.
OWN = "label_studio.core.settings.label_studio"
os.environ["DJANGO_SETTINGS_MODULE"] = OWN

from label_studio.core.settings.label_studio import *

os.environ["DJANGO_SETTINGS_MODULE"] = __name__

if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    WSGI_APPLICATION = "tiebreak_wsgi.application"
    if django.VERSION >= (5, 1):
        DATABASES["default"]["OPTIONS"] |= {
            "init_command": "PRAGMA journal_mode=WAL",
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
        }
