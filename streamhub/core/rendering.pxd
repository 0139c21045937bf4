# C types for rendering.py where it is compiled.

cimport cython

from streamhub.core.changes cimport Change
from streamhub.core.rows cimport EventKind, Layout


@cython.final
@cython.freelist(64)
cdef class Rendered:
    cdef readonly str organization_id, resource_id
    cdef readonly bint test
    cdef readonly EventKind kind
    cdef readonly bytes resource, tail


@cython.final
@cython.freelist(8)
cdef class Outcome:
    cdef readonly object events, counted
    cdef readonly str fault


cdef class Renderer:
    cdef public dict captures, types
    cdef public object book
    cdef public list renamed
    cdef Py_ssize_t _max_bytes
    cdef dict _plans, _latest
    cdef tuple _who
    cdef long long _second
    cdef str _second_text

    cdef _of_json(self, Change change, bint settle)
    cdef _two(self, Layout plan, Change change, list old, list new, list changed, bint settle)
    cdef _update(self, Layout plan, Change change, list old, list new, list changed, bint settle)
    cdef _outcome(self, Layout plan, Change change, str event, tuple identity, bytes resource, bytes delta)
    @cython.locals(created_at=cython.longlong, second=cython.longlong, microsecond=cython.longlong, name=bytes)
    cdef _event(self, Layout plan, Change change, str event, tuple identity, bytes resource, bytes delta, bytes who, bytes flag)
    cdef bytes _who_of(self, Change change)


@cython.locals(told=str, start=str)
cpdef bytes tail_of(
    bint test, str second, long long microsecond, long long transaction, bytes resource, bytes delta, bytes who, bytes more)
cdef str _kind_of_update(was, now)
