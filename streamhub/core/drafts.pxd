# C types for drafts.py where it is compiled.

cimport cython

from streamhub.core.rows cimport EventKind


cdef class _Shared:
    cdef object organization, hash_
    cdef bytes name, row_start, types, frame_start
    cdef Py_ssize_t frame_bytes


cdef class Drafts:
    cdef readonly list drafts
    cdef readonly Py_ssize_t size
    cdef readonly set types
    cdef dict _shared

    @cython.locals(
        left=list, kind=EventKind, shared=_Shared, resource_id=str, named=bytes, encoded=bytes, start=bytes, end=bytes,
        size=cython.Py_ssize_t)
    cpdef list add(self, events, organizations)
    @cython.locals(events=list, kind=EventKind, id_=str, frame=bytes)
    cpdef list events(self, ms, first_counter)


cdef bytes _field(text)
