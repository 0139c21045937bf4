cdef class EventKind:
    cdef readonly str type
    cdef readonly object resource_type
    cdef readonly bytes frame_start
    cdef readonly bytes head


cdef class Plan:
    cdef public object capture, fault, organization
    cdef public bint backfill, attributable
    cdef public object _fields
    cdef public tuple counted, names
    cdef public frozenset untied, identifying, hidden
    cdef public dict kinds, _places
    cdef public list _keys, _changes, _change_at, _shown, _around, _delta_openings, openings
    cdef public object _lone_key, _organization, _test_at, _anonymization
    cdef public bint _test_is_told, _test, _organization_is_padded, _as_written

    cpdef tuple identity(self, list row)
    cpdef object is_anonymized(self, list row)
    cpdef list shown(self, list row)
    cpdef bytes resource(self, list shown, str text)
    cpdef bytes delta(self, list old, list shown, list changed)


cdef _plain(bytes value)
