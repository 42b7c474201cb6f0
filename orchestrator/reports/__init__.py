"""The platform's reports, read line by line: payment accounting, settlement details, received payments.

``layout`` has the columns and what each record type says; ``reading`` turns bytes into lines and problems. Pure: bytes
in, values out; no file is opened here, and nothing is held but the line at hand.
"""
