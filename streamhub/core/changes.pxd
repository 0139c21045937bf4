# C types for changes.py where it is compiled.

cimport cython


@cython.final
@cython.freelist(64)
cdef class Change:
    cdef readonly object seq, xid, created_at, chained
    cdef readonly str origin, who, old_row, new_row
