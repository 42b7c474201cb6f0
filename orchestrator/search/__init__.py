"""What a person types to find a payment, read into a search. Pure: the clock is passed in.

``sought`` is what comes out, ``readers`` has a reader for each word that says what it is, ``receipts`` puts together
what stands apart on paper, ``words`` takes a typed line apart, guesses words without a name, and puts the ways to read
them in order. The database is asked by ``store.search``.
"""
