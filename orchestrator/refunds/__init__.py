"""Refunds: the same mechanism as payments, with a table, evidence and outcomes of their own.

Reads in the order ``model``, ``evidence``, ``transitions``, ``classify``, ``decide``. A refund never moves its payment,
and no payment moves its refunds.
"""
