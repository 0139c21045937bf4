from streamhub.core.plans cimport EventKind, Plan


cdef class Renderer:
    cdef public dict captures, types
    cdef public object book
    cdef public list renamed
    cdef Py_ssize_t _max_bytes
    cdef dict _plans, _latest
    cdef tuple _who
    cdef long long _second
    cdef bytes _second_text

    cdef _of_json(self, change, bint settle)
    cdef _two(self, Plan plan, change, list old, list new, list changed, bint settle)
    cdef _update(self, Plan plan, change, list old, list new, list changed, bint settle)
    cdef _outcome(self, Plan plan, change, str event, tuple identity, bytes resource, bytes delta)
    cdef _event(self, Plan plan, change, str event, tuple identity, bytes resource, bytes delta, bytes flag)
    cdef bytes _who_of(self, change)
