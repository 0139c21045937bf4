# C types for record_batch.py where it is compiled.

cimport cython

from streamhub.core.drafts cimport Common, Draft


cdef class Encoded:
    cdef bytes key, headers, behind_id
    cdef Py_ssize_t fixed


cdef class Records:
    cdef readonly Py_ssize_t most_bytes, length
    cdef readonly Py_ssize_t count
    cdef readonly list parts
    cdef readonly long long first_ms, highest_ms

    @cython.locals(
        size=cython.Py_ssize_t, number=bytes, time=bytes, value_length=bytes, prefix=bytes)
    cpdef bint add(
        self, Encoded shared, tuple value, Py_ssize_t value_bytes, bytes id_, bytes after, long long ms) except -1


cdef class Recorder:
    cdef bytes _start
    cdef object _partition_of, _new
    cdef dict _partitions, _last, _encoded

    @cython.locals(value=bytes, named=bytes, encoded=Encoded, partition=cython.int, ms=cython.longlong)
    cpdef add(self, events, long long now, dict batches)
    @cython.locals(
        common=Common, draft=Draft, encoded=Encoded, partition=cython.int, ms=cython.longlong, text=str, id_=bytes)
    cdef _add_drafts(self, events, long long now, dict batches)
    @cython.locals(its=list, batch=Records, after=bytes)
    cdef _record(
        self, dict batches, int partition, Encoded encoded, tuple value, Py_ssize_t value_bytes, bytes id_,
        long long ms)
    cdef int _partition(self, organization, bytes named, str type_, bint test) except -1
    cdef Encoded _encoded_of(self, bytes named, str type_, bint test)


cdef list _SMALL
cdef Py_ssize_t _MANY, _FIXED
cdef bytes _varint(long long number)
