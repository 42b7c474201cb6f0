"""Runs: our rows against the platform's books, over whole days of one merchant account.

``run`` goes through the steps; ``sources`` finds and reads the reports; ``entries`` says what their lines mean for
payments and refunds; ``summary`` puts what came of it in words.
"""
