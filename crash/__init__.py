"""The crash test: SIGKILL at every seam of a payment's life, then a look at what is left.

A seam is a point between two steps of a process: a line of the product's shell, or a system call on a socket. For each
seam one payment is made, the process is killed there from outside, is started again, and the payment is judged once it
has ended: by the simulator's ledger, by its journal, and by what is left in the database.

Read in this order: seams (what there is to try), lane (one payment, one kill), judge (what must hold), run (all of it),
then who kills: launcher and lines (starts a product process under a line trace), syscalls (follows one by ptrace).
Nothing of this is known to the product.
"""
