# C types for record_batch.py where it is compiled.

cimport cython


cdef class Encoded:
    cdef bytes key, headers, behind_id
    cdef Py_ssize_t fixed


cdef class Records:
    cdef readonly Py_ssize_t most_bytes, length
    cdef readonly Py_ssize_t count
    cdef readonly list parts
    cdef readonly long long first_ms, highest_ms

    @cython.locals(
        value_bytes=cython.Py_ssize_t, size=cython.Py_ssize_t, number=bytes, time=bytes, value_length=bytes,
        prefix=bytes)
    cpdef bint add(self, Encoded shared, bytes value, str id_, str after, long long ms) except -1


cdef class Recorder:
    cdef str _start
    cdef object _partition_of, _new
    cdef dict _partitions, _last, _encoded

    @cython.locals(
        id_=str, moment=str, ms=cython.longlong, value=bytes, named=bytes, encoded=Encoded, its=list, after=str,
        batch=Records)
    cpdef add(self, events, long long now, dict batches)
    cdef _partition(self, event)
    cdef Encoded _encode(self, bytes named, event)


cdef list _SMALL
cdef Py_ssize_t _MANY
cdef bytes _varint(long long number)
