# C types for drafts.py where it is compiled.

cimport cython

from streamhub.core.rendering cimport Rendered
from streamhub.core.rows cimport EventKind


cdef class Common:
    cdef readonly object organization, hash_
    cdef readonly bytes name, row_start, types
    cdef readonly EventKind kind
    cdef readonly bint test
    cdef readonly Py_ssize_t frame_bytes


@cython.final
@cython.freelist(64)
cdef class Draft:
    cdef readonly Common common
    cdef readonly str resource_id
    cdef readonly bytes start, end


cdef class Drafts:
    cdef readonly list drafts
    cdef readonly Py_ssize_t size
    cdef readonly set types
    cdef dict _common

    @cython.locals(
        left=list, rendered=Rendered, kind=EventKind, common=Common, resource_id=str, named=bytes, encoded=bytes, start=bytes, end=bytes,
        size=cython.Py_ssize_t)
    cpdef list add(self, events, organizations)


@cython.locals(common=Common, kind=EventKind, frame=bytes)
cpdef _event(Draft draft, str id_)
cdef bytes _field(text)
