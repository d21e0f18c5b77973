"""Settings for Label Studio's own process, which has none of Tiebreak's packages.

This folder goes into that process's ``PYTHONPATH``; nothing here imports anything of Tiebreak's.
"""
