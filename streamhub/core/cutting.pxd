# C types for cutting.py where it is compiled. What is not plain ends every scan, and so does the NUL byte that CPython
# keeps behind a bytes object's last.

cimport cython

cdef unsigned char _QUOTE, _BACKSLASH, _COMMA, _COLON, _DOT, _MINUS, _ZERO, _NINE, _N, _T
cdef unsigned char _OPEN_OBJECT, _CLOSE_OBJECT, _OPEN_ARRAY, _CLOSE_ARRAY, _SPACE
cdef Py_ssize_t _NOT_PLAIN

@cython.locals(
    opening=bytes, value=bytes, old_values=list, new_values=list, changed=list, place=cython.Py_ssize_t,
    at_old=cython.Py_ssize_t, at_new=cython.Py_ssize_t, end=cython.Py_ssize_t, behind=cython.Py_ssize_t)
cdef _compared(bytes old, bytes new, openings)
cdef bytes _part(const unsigned char* text, Py_ssize_t start, Py_ssize_t end)
cdef bint _is_the_end(bytes text, Py_ssize_t at) except -1

@cython.locals(byte=cython.uchar, expected=cython.uchar)
cdef Py_ssize_t _end_of_value(const unsigned char* text, Py_ssize_t at, int depth) noexcept

@cython.locals(byte=cython.uchar)
cdef Py_ssize_t _end_of_string(const unsigned char* text, Py_ssize_t at) noexcept
cdef Py_ssize_t _end_of_number(const unsigned char* text, Py_ssize_t at) noexcept

@cython.locals(start=cython.Py_ssize_t)
cdef Py_ssize_t _end_of_digits(const unsigned char* text, Py_ssize_t at) noexcept

@cython.locals(is_object=cython.bint, closing=cython.uchar)
cdef Py_ssize_t _end_of_nested(const unsigned char* text, Py_ssize_t at, int depth) noexcept
cdef Py_ssize_t _behind_space(const unsigned char* text, Py_ssize_t at) noexcept
