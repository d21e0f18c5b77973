"""``tiebreak doctor``: everything that must hold, looked at; each finding with its mend.

One check is one function of an :class:`~backend.doctor.examination.Examination` that returns an
:class:`~backend.doctor.findings.Outcome`; :mod:`backend.doctor.registry` lists them, and
:mod:`backend.doctor.runner` has them done. Looking changes nothing that belongs to anybody.
"""
