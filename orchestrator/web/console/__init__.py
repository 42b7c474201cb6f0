"""The console at ``/console``: pages for the people who live with the product, rendered here, whole without scripts.

``guard`` stands before everything: whose forms are taken, how large, and the headers of every answer. ``desk`` is what
views are given: who is logged in, what their role lets them do, and how a page is made. A view holds no SQL and decides
nothing about money: it calls what the HTTP API calls.
"""
