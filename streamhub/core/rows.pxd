# C types for rows.py where it is compiled.

cimport cython


cdef class EventKind:
    cdef readonly str type
    cdef readonly object resource_type
    cdef readonly bytes frame_start, head


cdef class Layout:
    cdef public object capture, keys
    cdef public list openings, identifying, telling, changes, changing_places, delta_openings, around, shown_places
    cdef public object organization_place, lone_key, test_place, anonymization_place
    cdef public bint as_written, organization_is_padded, test_is_told, test_otherwise, backfill
    cdef public dict kinds
    cdef public tuple counted

    cpdef tuple identity(self, list row)
    cdef _key(self, list row)
    @cython.locals(place=cython.Py_ssize_t)
    cpdef bint may_have_moved(self, list changed) except -1
    @cython.locals(place=cython.Py_ssize_t)
    cpdef bint tells(self, list changed) except -1
    cpdef is_anonymized(self, list row)
    @cython.locals(shown=list, place=cython.Py_ssize_t)
    cpdef list shown(self, list row)
    @cython.locals(parts=list)
    cpdef bytes resource(self, list shown, str text)
    @cython.locals(parts=list, place=cython.Py_ssize_t)
    cpdef bytes delta(self, list old, list shown, list changed)


cpdef plain(bytes value)
cpdef bytes number(bytes value)
cpdef bytes redacted(bytes value)
cdef int _QUOTE, _BACKSLASH, _N
