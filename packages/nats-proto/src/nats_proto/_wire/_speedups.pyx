# cython: language_level=3, cdivision=True, binding=False, auto_pickle=False
"""The compiled twins of the modules beside this one: the same results.

Theory of operation
-------------------
Nothing is decided here. An operation that is certainly right is taken; at everything else, faults included, the work is
left to the strict path in Python, which is the reference. So no error is made here, and there is no second set of rules
to keep in step: what is in doubt may always be left.

* A place in the buffer is an index, compared with the buffer's end before its byte is read.
* A number has at most 19 digits, which always fit in 64 bits without a sign. It becomes a length only within a limit
  that is one, and is used only after it was compared with what is left of the buffer. Lengths are subtracted only from
  what is known to be no smaller, and added only when all of them are those of objects in memory.
* The buffer is ``bytes``, which nobody can change, and the caller's reference keeps it. Readers are immutable, the
  module holds constants. A tail is one thread's at a time, by the interpreter's lock or by its own. So threads have
  nothing to quarrel about. Python without that lock switches it on when it loads this module, which does not say that
  it needs none: nobody has run it so.
* A tail asks for memory before it writes anything. What it was asked to write it has copied when it returns, but for
  large payloads, each of which it holds a reference to.
* What is written into is a ``bytes`` object that nobody else has a reference to. Who gives it away forgets it.
* Answers for tasks belong to one event loop, and so to one thread.
* Of an answer for a thread only the lock is touched without the interpreter's, and who touches it has a reference.
"""

cimport cython
from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.list cimport PyList_GET_ITEM, PyList_GET_SIZE
from cpython.mem cimport PyMem_Free, PyMem_Malloc, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF
from cpython.tuple cimport PyTuple_GET_ITEM, PyTuple_GET_SIZE
from libc.stdint cimport uint64_t
from libc.string cimport memcmp, memcpy, memset

from collections import deque as _deque
from os import urandom as _urandom

from .batch import Batch as _Batch
from .frames import MIN_HEADER_BLOCK as _MIN_HEADER_BLOCK
from .frames import OK_FRAME as _OK_FRAME
from .frames import PING_FRAME as _PING_FRAME
from .frames import PONG_FRAME as _PONG_FRAME
from .requests import KEY_LENGTH as _KEY_LENGTH
from .thread_answers import SLICE as _SLICE

cdef extern from "Python.h":
    const Py_ssize_t PY_SSIZE_T_MAX
    const size_t PY_VECTORCALL_ARGUMENTS_OFFSET
    object PyObject_Vectorcall(object callable, PyObject** arguments, size_t count, PyObject* names)
    object PyLong_FromUnsignedLongLong(unsigned long long value)
    object PyUnicode_DecodeUTF8(const char* text, Py_ssize_t size, const char* errors)
    bint PyUnicode_IS_ASCII(object text)
    object PyUnicode_Substring(object text, Py_ssize_t begin, Py_ssize_t end)
    Py_ssize_t PyUnicode_Tailmatch(object text, object part, Py_ssize_t begin, Py_ssize_t end, int direction) except -1
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    const unsigned char* PyUnicode_1BYTE_DATA(object text)

ctypedef const unsigned char* Bytes

cdef enum:
    MAX_WORDS = 5  # of HMSG: subject, sid, reply, size of the header block, size of everything
    MAX_DIGITS = 19
    # Slots of a table that needs no memory of its own, a power of two.
    FEW = 32
    # A publish with a longer line is Python's. So the lengths added up for one are far from what a word can hold.
    LONGEST_LINE = 1 << 20
    LARGEST_PAYLOAD = 1 << 26
    LONGEST_TAIL = 1 << 28
    # Times the limit of a tail, with large payloads.
    APART_ROOM = 4
    # Lengths from which on they are not made objects of their own.
    MANY = 16
    # Of a reply subject of a consumer: attempts, places in the stream and at the consumer, the time, messages behind.
    NUMBERS = 5

cdef Py_ssize_t MIN_HEADER_BLOCK = _MIN_HEADER_BLOCK
cdef Py_ssize_t KEY_LENGTH = _KEY_LENGTH
cdef object OK_FRAME = _OK_FRAME
cdef object PING_FRAME = _PING_FRAME
cdef object PONG_FRAME = _PONG_FRAME
cdef object Batch = _Batch
cdef uint64_t SPREAD = int.from_bytes(_urandom(8), "little") | 1


# --- bytes into frames -----------------------------------------------------------------------------------------------


cdef struct Words:
    Py_ssize_t count
    Py_ssize_t begin[MAX_WORDS]
    Py_ssize_t end[MAX_WORDS]


cdef struct Line:
    # Of a message. What is a place is one in the buffer.
    Py_ssize_t begin
    Py_ssize_t length
    Py_ssize_t subject
    Py_ssize_t subject_end
    Py_ssize_t reply
    Py_ssize_t reply_end  # the same place when there is no reply
    uint64_t sid
    Py_ssize_t block_size
    Py_ssize_t size


cdef struct Slot:
    # Of a table: a group by its sid. An empty slot has no group.
    uint64_t number
    PyObject* group


@cython.final
@cython.no_gc
@cython.freelist(64)
cdef class Group:
    """The messages for one sid. Nothing in it refers to it, so the collector need not know it."""

    cdef uint64_t number
    cdef object sid
    cdef object subject
    cdef Py_ssize_t subject_begin, subject_end  # of its last line, in the buffer
    cdef Py_ssize_t first, last  # messages, by their places among all
    cdef Py_ssize_t count
    cdef Py_ssize_t bytes
    # Their sizes, as in a share: those before the last stretch of one size, then that stretch.
    cdef list sizes
    cdef Py_ssize_t size
    cdef Py_ssize_t same


@cython.final
@cython.no_gc
cdef class Gathered:
    """The messages of a buffer by sid, in the order in which the sids came: the shares of a `Batch`.

    A message has no object here but itself: with many subscriptions a list for each would have the collector look at
    all of them again and again. They lie in one list; behind each the place of the next one for the same sid is known.

    Groups are found by a table whose slots are chosen by a multiplication with a random number, so nobody can choose
    sids that all meet in one slot. All sums are of lengths that lie side by side in one buffer.
    """

    cdef list messages
    cdef Py_ssize_t* following
    cdef Py_ssize_t room
    cdef list groups
    cdef Slot few[FEW]
    cdef Slot* slots
    cdef Py_ssize_t capacity  # a power of two
    cdef int shift
    cdef Py_ssize_t data_bytes

    def __cinit__(self):
        self.messages = []
        self.following = NULL
        self.groups = []
        self.slots = NULL
        self.room = self.data_bytes = 0
        self.use(self.few, FEW)

    def __dealloc__(self):
        PyMem_Free(self.following)
        self.free_slots()

    def __iter__(self):
        return Shares.__new__(Shares, self)

    cdef void free_slots(self) noexcept:
        if self.slots != self.few:
            PyMem_Free(self.slots)
        self.slots = NULL

    cdef void use(self, Slot* slots, Py_ssize_t capacity) noexcept:
        memset(slots, 0, capacity * sizeof(Slot))
        self.slots = slots
        self.capacity = capacity
        self.shift = 64
        while capacity > 1:
            capacity >>= 1
            self.shift -= 1

    cdef inline Slot* find(self, uint64_t number) noexcept:
        """The slot of this sid, or the empty one that it would have. There always is an empty one."""
        cdef uint64_t at = (number * SPREAD) >> self.shift
        while self.slots[at].group != NULL and self.slots[at].number != number:
            at = (at + 1) & <uint64_t>(self.capacity - 1)
        return &self.slots[at]

    cdef Group of(self, uint64_t number):
        """The group of this sid, a new one if there was none."""
        cdef Slot* slot = self.find(number)
        cdef Group group
        if slot.group != NULL:
            return <Group>slot.group
        group = Group.__new__(Group)
        group.number = number
        group.sid = PyLong_FromUnsignedLongLong(number)
        group.count = group.bytes = group.same = 0
        group.size = -1
        # A table that is half full is made larger before anything is put into it, or there is a `MemoryError`.
        if 2 * PyList_GET_SIZE(self.groups) >= self.capacity:
            self.enlarge()
            slot = self.find(number)
        self.groups.append(group)
        slot.number = number
        slot.group = <PyObject*>group
        return group

    cdef int enlarge(self) except -1:
        cdef Slot* before = self.slots
        cdef Py_ssize_t at, capacity = self.capacity
        cdef Slot* slots
        if capacity > PY_SSIZE_T_MAX // (8 * <Py_ssize_t>sizeof(Slot)):
            raise MemoryError
        slots = <Slot*>PyMem_Malloc(4 * capacity * sizeof(Slot))
        if slots == NULL:
            raise MemoryError
        self.use(slots, 4 * capacity)
        for at in range(capacity):
            if before[at].group != NULL:
                self.find(before[at].number)[0] = before[at]
        if before != self.few:
            PyMem_Free(before)
        return 0

    cdef inline int add(self, Group group, object message, Py_ssize_t size, Py_ssize_t block_size) except -1:
        cdef Py_ssize_t place = PyList_GET_SIZE(self.messages)
        if place == self.room:
            self.make_room()
        if group.size != size:
            if group.count:
                if group.sizes is None:
                    group.sizes = []
                group.sizes.append((group.same, group.size))
            group.size = size
            group.same = 0
        self.messages.append(message)
        if group.count:
            self.following[group.last] = place
        else:
            group.first = place
        group.last = place
        group.count += 1
        group.same += 1
        group.bytes += size
        self.data_bytes += size - block_size
        return 0

    cdef int make_room(self) except -1:
        cdef Py_ssize_t room = 2 * self.room + MANY
        cdef void* memory
        if self.room > PY_SSIZE_T_MAX // (4 * <Py_ssize_t>sizeof(Py_ssize_t)):
            raise MemoryError
        memory = PyMem_Realloc(self.following, room * sizeof(Py_ssize_t))
        if memory == NULL:
            raise MemoryError
        self.following = <Py_ssize_t*>memory
        self.room = room
        return 0

    cdef int give(self, list frames) except -1:
        """Append what was gathered as one frame: a `Batch`, or the message if there is only one."""
        cdef Py_ssize_t count = PyList_GET_SIZE(self.messages)
        if count == 1:
            frames.append(self.messages[0])
        elif count:
            self.free_slots()
            frames.append(Batch(self.messages, self, self.data_bytes))
        return 0

    cdef object share(self, Group group):
        """See `Share`."""
        cdef list messages
        cdef Py_ssize_t at = group.first, number
        if group.count == PyList_GET_SIZE(self.messages):
            messages = self.messages
        else:
            # Appended, as nothing else may see a list that is not filled yet.
            messages = []
            for number in range(group.count):
                messages.append(<object>PyList_GET_ITEM(self.messages, at))
                at = self.following[at]
        if group.sizes is None:
            return group.sid, messages, group.bytes, (group.same, group.size)
        return group.sid, messages, group.bytes, [*group.sizes, (group.same, group.size)]


@cython.final
@cython.no_gc
cdef class Shares:
    """Goes through the shares of a batch, each made when it is asked for."""

    cdef Gathered gathered
    cdef Py_ssize_t at

    def __cinit__(self, Gathered gathered not None):
        self.gathered = gathered
        self.at = 0

    def __iter__(self):
        return self

    def __next__(self):
        if self.at == PyList_GET_SIZE(self.gathered.groups):
            raise StopIteration
        self.at += 1
        return self.gathered.share(<Group>PyList_GET_ITEM(self.gathered.groups, self.at - 1))


@cython.final
cdef class FastPath:
    """Reads operations that lie whole in one chunk, within the parser's limits (bytes)."""

    cdef Py_ssize_t max_control_line
    cdef Py_ssize_t max_header_bytes
    cdef Py_ssize_t max_payload
    cdef object message_type

    def __cinit__(self, *, max_control_line, max_header_bytes, max_payload, message_type):
        self.max_control_line = min(max_control_line, PY_SSIZE_T_MAX)
        self.max_header_bytes = min(max_header_bytes, PY_SSIZE_T_MAX)
        self.max_payload = min(max_payload, PY_SSIZE_T_MAX)
        self.message_type = message_type

    def read(self, bytes data not None, Py_ssize_t position, list frames not None, bint batches=False):
        """Take whole operations from ``position`` on and append their frames. See the Python twin."""
        cdef Bytes text = <Bytes>PyBytes_AS_STRING(data)
        cdef Py_ssize_t end = PyBytes_GET_SIZE(data)
        cdef Py_ssize_t begin, length = 0
        cdef Line line, last
        cdef Gathered gathered = Gathered.__new__(Gathered)
        cdef Group group = None
        cdef object reply = None, frame
        memset(&last, 0, sizeof(last))
        while 0 <= position < end:
            # Many messages in a row often have the very same line, or at least the same subject and sid.
            if not last.length or not starts(text, position, end, <const char*>text + last.begin, last.length):
                if not self.read_line(text, position, end, &line):
                    frame = read_word(text, position, end, &length)
                    if frame is None:
                        break
                    if group is not None:
                        gathered.give(frames)
                        gathered = Gathered.__new__(Gathered)
                        group = None
                        last.length = 0
                    frames.append(frame)
                    position += length
                    continue
                begin = position + line.length
                if not ends(text, begin, line.size, end) or not is_framed(text, begin, line.block_size):
                    break
                if group is None or group.number != line.sid:
                    group = gathered.of(line.sid)
                length = line.subject_end - line.subject
                if group.subject is None or group.subject_end - group.subject_begin != length or (
                    memcmp(text + line.subject, text + group.subject_begin, length) != 0
                ):
                    group.subject = decode(text, line.subject, line.subject_end)
                group.subject_begin = line.subject
                group.subject_end = line.subject_end
                reply = None if line.reply == line.reply_end else decode(text, line.reply, line.reply_end)
                last = line
            else:
                begin = position + last.length
                if not ends(text, begin, last.size, end) or not is_framed(text, begin, last.block_size):
                    break
            frame = self.message(group.subject, group.sid, reply, text + begin, last.block_size, last.size)
            if batches:
                gathered.add(group, frame, last.size, last.block_size)
            else:
                frames.append(frame)
            position = begin + last.size + 2
        gathered.give(frames)
        return position

    cdef bint read_line(self, Bytes text, Py_ssize_t position, Py_ssize_t end, Line* line) noexcept nogil:
        """Read the line of a MSG or HMSG; False to leave it to the strict path."""
        cdef Py_ssize_t stop = position + self.max_control_line if end - position > self.max_control_line else end
        cdef bint headers
        cdef uint64_t block_size = 0, size = 0
        cdef Words words
        if starts(text, position, stop, b"MSG ", 4):
            headers = False
        elif starts(text, position, stop, b"HMSG ", 5):
            headers = True
        else:
            return False
        stop = split(text, position + 4 + headers, stop, &words)
        if stop == 0 or not 3 <= words.count - headers <= 4:
            return False
        if not read_number(text, &words, 1, &line.sid) or not read_number(text, &words, words.count - 1, &size):
            return False
        if headers and not read_number(text, &words, words.count - 2, &block_size):
            return False
        if headers and not (<uint64_t>MIN_HEADER_BLOCK <= block_size and within(block_size, self.max_header_bytes)):
            return False
        if not (block_size <= size and within(size, self.max_payload)):
            return False
        line.begin = position
        line.length = stop - position
        line.subject = words.begin[0]
        line.subject_end = words.end[0]
        line.reply = words.begin[2]
        line.reply_end = words.end[2] if words.count - headers == 4 else words.begin[2]
        line.block_size = <Py_ssize_t>block_size
        line.size = <Py_ssize_t>size
        return True

    cdef inline object message(
        self, object subject, object sid, object reply, Bytes content, Py_ssize_t block_size, Py_ssize_t size
    ):
        """A message of the wanted type, made as any call would make it: nothing is known here of its inside."""
        cdef bytes data = PyBytes_FromStringAndSize(<const char*>content + block_size, size - block_size)
        cdef bytes block = None
        cdef PyObject* arguments[6]
        cdef size_t count = 4
        arguments[0] = NULL  # the callee's, while it runs
        arguments[1] = <PyObject*>subject
        arguments[2] = <PyObject*>sid
        arguments[3] = <PyObject*>reply
        arguments[4] = <PyObject*>data
        if block_size:
            block = PyBytes_FromStringAndSize(<const char*>content, block_size)
            arguments[5] = <PyObject*>block
            count = 5
        return PyObject_Vectorcall(self.message_type, &arguments[1], count | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef object read_word(Bytes text, Py_ssize_t position, Py_ssize_t end, Py_ssize_t* length):
    """The frame of an operation that is one word, and its length; None when there is none."""
    length[0] = 6
    if starts(text, position, end, b"PING\r\n", 6):
        return PING_FRAME
    if starts(text, position, end, b"PONG\r\n", 6):
        return PONG_FRAME
    length[0] = 5
    if starts(text, position, end, b"+OK\r\n", 5):
        return OK_FRAME
    return None


cdef inline bint is_framed(Bytes text, Py_ssize_t at, Py_ssize_t size) noexcept nogil:
    """As `is_well_framed` for the block of this size, which lies in the buffer and is long enough; 0: there is none."""
    if size == 0:
        return True
    if memcmp(text + at, b"NATS/1.0", 8) != 0 or memcmp(text + at + size - 4, b"\r\n\r\n", 4) != 0:
        return False
    return text[at + 8] == 13 or text[at + 8] == 32 or text[at + 8] == 9


cdef inline bint starts(Bytes text, Py_ssize_t at, Py_ssize_t end, const char* what, Py_ssize_t size) noexcept nogil:
    """Whether these bytes lie between ``at`` and ``end``."""
    return end - at >= size and memcmp(text + at, what, size) == 0


cdef inline bint ends(Bytes text, Py_ssize_t at, Py_ssize_t size, Py_ssize_t end) noexcept nogil:
    """Whether ``size`` bytes and CR LF lie between ``at`` and ``end``."""
    return end - at >= 2 and size <= end - at - 2 and text[at + size] == 13 and text[at + size + 1] == 10


cdef inline Py_ssize_t split(Bytes text, Py_ssize_t at, Py_ssize_t end, Words* words) noexcept nogil:
    """Printable words, one blank between them, then CR LF. Returns the place behind it; 0 when it is anything else."""
    cdef Py_ssize_t begin
    words.count = 0
    while words.count < MAX_WORDS:
        begin = at
        while at < end and text[at] > 32 and text[at] != 127:
            at += 1
        if at == begin or at == end:
            return 0
        words.begin[words.count] = begin
        words.end[words.count] = at
        words.count += 1
        if text[at] == 13:
            return at + 2 if end - at >= 2 and text[at + 1] == 10 else 0
        if text[at] != 32:
            return 0
        at += 1
    return 0


cdef inline bint read_number(Bytes text, const Words* words, Py_ssize_t index, uint64_t* number) noexcept nogil:
    """Read a word as decimal digits; False when it is none, or has more than always fit."""
    cdef Py_ssize_t at = words.begin[index]
    cdef uint64_t value = 0
    if words.end[index] - at > MAX_DIGITS:
        return False
    while at < words.end[index]:
        if not 48 <= text[at] <= 57:
            return False
        value = value * 10 + (text[at] - 48)
        at += 1
    number[0] = value
    return True


cdef inline bint within(uint64_t number, Py_ssize_t limit) noexcept nogil:
    """Whether it is a length, and no larger than the limit. Nothing is within one below 0, which as a word is large."""
    return 0 <= limit and number <= <uint64_t>limit


cdef inline object decode(Bytes text, Py_ssize_t begin, Py_ssize_t end):
    return PyUnicode_DecodeUTF8(<const char*>text + begin, end - begin, "surrogateescape")


# --- publishes into bytes --------------------------------------------------------------------------------------------


cdef struct Apart:
    # A large payload, and its place among the bytes that were copied.
    PyObject* payload
    Py_ssize_t place


@cython.final
cdef class Tail:
    """The end of what waits to be written: operations, one behind the other. See the Python twin.

    Threads publish without a lock, so every call is one step: no other thread comes in while it changes anything.
    """

    cdef unsigned char* bytes
    cdef Py_ssize_t filled
    cdef Py_ssize_t capacity
    cdef Py_ssize_t* lengths
    cdef Py_ssize_t count
    cdef Py_ssize_t slots
    cdef Apart* apart
    cdef Py_ssize_t apart_count
    cdef Py_ssize_t apart_slots
    cdef Py_ssize_t longest_line
    cdef Py_ssize_t largest_payload
    cdef Py_ssize_t apart_from
    cdef Py_ssize_t least
    cdef tuple others
    cdef bytes piece  # what was given, as long as not all of it was sent
    cdef Py_ssize_t* piece_lengths
    cdef Py_ssize_t piece_count
    cdef Py_ssize_t piece_slots
    cdef readonly Py_ssize_t size
    cdef readonly Py_ssize_t given
    cdef readonly uint64_t msgs
    cdef readonly uint64_t payload_bytes

    def __cinit__(self, heads, others=()):
        # The checked subjects of the Python twin: here a check costs no more than looking one up.
        self.others = tuple(others)
        self.bytes = NULL
        self.lengths = self.piece_lengths = NULL
        self.piece_count = self.piece_slots = self.given = 0
        self.apart = NULL
        self.filled = self.capacity = self.count = self.slots = self.apart_count = self.apart_slots = 0
        self.size = self.longest_line = self.least = 0
        self.largest_payload = -1
        self.apart_from = PY_SSIZE_T_MAX
        self.msgs = self.payload_bytes = 0

    def __dealloc__(self):
        self.let_go()
        PyMem_Free(self.apart)
        PyMem_Free(self.bytes)
        PyMem_Free(self.lengths)
        PyMem_Free(self.piece_lengths)

    @property
    def limit(self):
        return self.least

    @limit.setter
    def limit(self, value):
        cdef Py_ssize_t least = max(0, min(value, LONGEST_TAIL))
        with cython.critical_section(self):
            self.least = least

    def restrict(self, longest_line, largest_payload, apart_from=PY_SSIZE_T_MAX):
        cdef Py_ssize_t line = max(0, min(longest_line, LONGEST_LINE))
        cdef Py_ssize_t payload = max(-1, min(largest_payload, LARGEST_PAYLOAD))
        cdef Py_ssize_t apart = max(0, min(apart_from, PY_SSIZE_T_MAX))
        with cython.critical_section(self):
            self.longest_line = line
            self.largest_payload = payload
            self.apart_from = apart

    @cython.critical_section
    def publish(self, subject, data, reply=None, headers=None):
        return self.take_publish(subject, data, reply, headers)

    cdef inline bint take_publish(self, subject, data, reply, headers) except -1:
        cdef Py_ssize_t reply_size = 0
        cdef Bytes reply_text = NULL
        if headers is not None or type(data) is not bytes or (self.size >= self.least and not self.has_room()):
            return False
        if PyBytes_GET_SIZE(data) > self.largest_payload or not is_plain_subject(subject, self.longest_line):
            return False
        if reply is not None:
            if not is_plain_subject(reply, self.longest_line):
                return False
            reply_size = PyUnicode_GET_LENGTH(reply)
            reply_text = PyUnicode_1BYTE_DATA(reply)
        return self.write(
            PyUnicode_1BYTE_DATA(subject),
            PyUnicode_GET_LENGTH(subject),
            reply_text,
            reply_size,
            data,
        )

    @cython.critical_section
    def publish_many(self, subject, tuple payloads not None, Py_ssize_t start):
        cdef Py_ssize_t at = start, end = PyTuple_GET_SIZE(payloads)
        cdef object data
        if start < 0 or not is_plain_subject(subject, self.longest_line):
            return start
        while at < end and self.has_room():
            data = <object>PyTuple_GET_ITEM(payloads, at)
            if type(data) is not bytes or PyBytes_GET_SIZE(data) > self.largest_payload:
                break
            if not self.write(
                PyUnicode_1BYTE_DATA(subject),
                PyUnicode_GET_LENGTH(subject),
                NULL,
                0,
                data,
            ):
                break
            at += 1
        return at

    @cython.critical_section
    def append(self, bytes operation not None):
        cdef Py_ssize_t size = PyBytes_GET_SIZE(operation)
        self.reserve(size)
        put(self.bytes + self.filled, PyBytes_AS_STRING(operation), size)
        self.filled += size
        self.lengths[self.count] = size
        self.count += 1
        self.size += size

    def take(self):
        # What holds other objects comes first and last: to make it may collect garbage, and so run code that publishes.
        cdef list pieces
        cdef bytes words = None
        cdef Py_ssize_t apart
        while words is None:
            apart = self.apart_count
            pieces = [None] * (2 * apart + 1)
            with cython.critical_section(self):
                if apart == self.apart_count:
                    words = PyBytes_FromStringAndSize(<const char*>self.lengths, self.count * sizeof(Py_ssize_t))
                    self.fill(pieces)
                    self.let_go()
                    self.size = self.filled = self.count = 0
        return pieces, as_lengths(words)

    def give(self):
        cdef list pieces = [None], none = []  # made beforehand, as above
        cdef object other
        cdef bytes piece
        with cython.critical_section(self):
            if self.given or self.apart_count:
                return None
            for other in self.others:
                if len(other):
                    return None
            if not self.size:
                return none
            piece = PyBytes_FromStringAndSize(<const char*>self.bytes, self.filled)
            self.piece = piece
            self.lengths, self.piece_lengths = self.piece_lengths, self.lengths
            self.slots, self.piece_slots = self.piece_slots, self.slots
            self.piece_count = self.count
            self.given = self.size
            self.size = self.filled = self.count = 0
        pieces[0] = piece
        return pieces

    def sent(self, Py_ssize_t nbytes):
        with cython.critical_section(self):
            if nbytes < self.given:
                self.given -= nbytes
                return 0
            nbytes -= self.given
            self.given = 0
            self.piece = None
        return nbytes

    def kept(self):
        cdef bytes piece, words
        with cython.critical_section(self):
            if not self.given:
                return [], ()
            piece = self.piece
            words = PyBytes_FromStringAndSize(
                <const char*>self.piece_lengths, self.piece_count * sizeof(Py_ssize_t)
            )
        return [piece], as_lengths(words)

    cdef int fill(self, list pieces) except -1:
        """What was copied and large payloads, in turn."""
        cdef Py_ssize_t index, begin = 0
        cdef Apart* apart
        for index in range(self.apart_count):
            apart = self.apart + index
            pieces[2 * index] = PyBytes_FromStringAndSize(<const char*>self.bytes + begin, apart.place - begin)
            pieces[2 * index + 1] = <object>apart.payload
            begin = apart.place
        pieces[2 * self.apart_count] = PyBytes_FromStringAndSize(<const char*>self.bytes + begin, self.filled - begin)
        return 0

    cdef void let_go(self) noexcept:
        """Of the large payloads. They are ``bytes``, so their end runs no code of anybody."""
        while self.apart_count:
            self.apart_count -= 1
            Py_DECREF(<object>self.apart[self.apart_count].payload)

    cdef bint write(
        self, Bytes subject, Py_ssize_t subject_size, Bytes reply, Py_ssize_t reply_size, object data
    ) except -1:
        """A PUB, its parts looked at; False when its line is too long. All sizes are far from what a word can hold."""
        cdef unsigned char digits[20]
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data)
        cdef bint is_apart = size >= self.apart_from
        cdef Py_ssize_t first_digit = write_digits(size, digits)
        cdef Py_ssize_t line = 4 + subject_size + 1 + (20 - first_digit) + 2
        cdef unsigned char* to
        if reply_size:
            line += reply_size + 1
        if line > self.longest_line:
            return False
        if is_apart:
            self.reserve_apart()
        self.reserve(line + 2 if is_apart else line + size + 2)
        to = self.bytes + self.filled
        to = put(to, b"PUB ", 4)
        to = put(to, subject, subject_size)
        to = put(to, b" ", 1)
        if reply_size:
            to = put(to, reply, reply_size)
            to = put(to, b" ", 1)
        to = put(to, digits + first_digit, 20 - first_digit)
        to = put(to, b"\r\n", 2)
        if is_apart:
            Py_INCREF(data)
            self.apart[self.apart_count] = Apart(<PyObject*>data, to - self.bytes)
            self.apart_count += 1
        else:
            to = put(to, PyBytes_AS_STRING(data), size)
        to = put(to, b"\r\n", 2)
        self.filled = to - self.bytes
        self.lengths[self.count] = line + size + 2
        self.count += 1
        self.size += line + size + 2
        self.msgs += 1
        self.payload_bytes += size
        return True

    cdef inline bint has_room(self) noexcept:
        """Below the limit of what was copied, and of all together."""
        return self.filled < self.least and self.size < APART_ROOM * self.least

    cdef int reserve(self, Py_ssize_t size) except -1:
        """Room for one more operation of this size. `MemoryError`, with nothing changed, when there is none."""
        cdef Py_ssize_t wanted
        cdef void* memory
        if size >= self.capacity - self.filled:  # never without any, also for nothing
            if size > PY_SSIZE_T_MAX // 4 or self.filled > PY_SSIZE_T_MAX // 4:
                raise MemoryError
            wanted = 2 * (self.filled + size) + MANY
            memory = PyMem_Realloc(self.bytes, wanted)
            if memory == NULL:
                raise MemoryError
            self.bytes = <unsigned char*>memory
            self.capacity = wanted
        if self.count == self.slots:
            if self.slots > PY_SSIZE_T_MAX // (4 * <Py_ssize_t>sizeof(Py_ssize_t)):
                raise MemoryError
            wanted = 2 * self.slots + MANY
            memory = PyMem_Realloc(self.lengths, wanted * sizeof(Py_ssize_t))
            if memory == NULL:
                raise MemoryError
            self.lengths = <Py_ssize_t*>memory
            self.slots = wanted
        return 0

    cdef int reserve_apart(self) except -1:
        """The same for one more large payload."""
        cdef Py_ssize_t wanted
        cdef void* memory
        if self.apart_count == self.apart_slots:
            if self.apart_slots > PY_SSIZE_T_MAX // (4 * <Py_ssize_t>sizeof(Apart)):
                raise MemoryError
            wanted = 2 * self.apart_slots + MANY
            memory = PyMem_Realloc(self.apart, wanted * sizeof(Apart))
            if memory == NULL:
                raise MemoryError
            self.apart = <Apart*>memory
            self.apart_slots = wanted
        return 0


cdef object as_lengths(bytes words):
    """The lengths of operations: few are a tuple, more of them an array."""
    cdef Py_ssize_t index, count = PyBytes_GET_SIZE(words) // <Py_ssize_t>sizeof(Py_ssize_t)
    cdef list sizes
    if count > MANY:
        return memoryview(words).cast("n")
    sizes = [None] * count
    for index in range(count):
        sizes[index] = (<const Py_ssize_t*>PyBytes_AS_STRING(words))[index]
    return tuple(sizes)


cdef inline unsigned char* put(unsigned char* to, const void* source, Py_ssize_t size) noexcept nogil:
    memcpy(to, source, size)
    return to + size


cdef inline Py_ssize_t write_digits(Py_ssize_t number, unsigned char* digits) noexcept nogil:
    """Write a number at the end of 20 bytes. Returns the place of its first digit."""
    cdef Py_ssize_t at = 20
    while True:
        at -= 1
        digits[at] = <unsigned char>(48 + number % 10)
        number //= 10
        if number == 0:
            return at


cdef inline bint is_plain_subject(object subject, Py_ssize_t longest) noexcept:
    """Whether it is a real ``str`` of ASCII tokens without wildcards: a subject for certain. Others may be one too."""
    cdef Bytes text
    cdef Py_ssize_t at, size
    cdef bint in_token = False
    if type(subject) is not str or not PyUnicode_IS_ASCII(subject):
        return False
    size = PyUnicode_GET_LENGTH(subject)
    if size > longest:
        return False
    text = PyUnicode_1BYTE_DATA(subject)
    for at in range(size):
        if text[at] == 46:
            if not in_token:
                return False
            in_token = False
        elif text[at] <= 32 or text[at] == 127 or text[at] == 42 or text[at] == 62:
            return False
        else:
            in_token = True
    return in_token


# --- payloads put together -------------------------------------------------------------------------------------------


cdef extern from *:
    """
    #if defined(__linux__)
    #include <sys/mman.h>
    #include <unistd.h>
    #endif

    /* A large page costs the system little more than an ordinary one, and stands for hundreds of them. The wish is made
       for every page that has some of the bytes. If it were not made for all of them, the system could not move the
       whole to another address when it grows, and the bytes would be copied. */
    static void wish_large_pages(char *begin, size_t size) {
    #ifdef MADV_HUGEPAGE
        size_t page = (size_t)sysconf(_SC_PAGESIZE);
        size_t first = (size_t)begin & ~(page - 1);
        size_t last = ((size_t)begin + size + page - 1) & ~(page - 1);
        (void)madvise((void *)first, last - first, MADV_HUGEPAGE);
    #else
        (void)begin;
        (void)size;
    #endif
    }

    /* Whether the object may be made larger in its place. Without the interpreter's lock a thread may do that only to
       what it has made itself. */
    #if defined(Py_GIL_DISABLED) && PY_VERSION_HEX >= 0x030E0000
    #define may_grow(object) PyUnstable_Object_IsUniquelyReferenced(object)
    #else
    #define may_grow(object) (Py_REFCNT(object) == 1)
    #endif
    """
    void wish_large_pages(char* begin, size_t size) noexcept nogil
    bint may_grow(PyObject* object)

cdef extern from "Python.h":
    # Of objects of the type ``bytes`` that nobody has seen yet, and whose content may therefore still be written.
    PyObject* new_bytes "PyBytes_FromStringAndSize"(const char* content, Py_ssize_t size) except NULL
    int resize_bytes "_PyBytes_Resize"(PyObject** content, Py_ssize_t size) except -1
    char* content_of "PyBytes_AS_STRING"(PyObject* content)
    Py_ssize_t size_of "PyBytes_GET_SIZE"(PyObject* content)
    void Py_CLEAR(PyObject* content)

cdef enum:
    # Bytes of a payload that is given all of its room when its first piece comes.
    AT_ONCE = 1 << 16
    # Bytes, of which the room for a larger one has a whole number until it has its last size.
    STEP = 1 << 12
    # Bytes that have come from which on large pages are asked for: below, most of such a page would stay empty.
    LARGE_PAGES_FROM = 1 << 22


@cython.final
cdef class Assembly:
    """Takes a known number of bytes out of chunks. See the Python twin.

    What comes in several chunks is written into one ``bytes`` object, of which the first ``filled`` bytes have come.
    Nobody else has that object until it is complete, so it may grow and be written. Then it is the message's.
    """

    cdef PyObject* whole  # NULL while nothing has come, and when all of it has
    cdef Py_ssize_t filled
    cdef Py_ssize_t missing

    def __cinit__(self):
        self.whole = NULL
        self.filled = self.missing = 0

    def __dealloc__(self):
        Py_CLEAR(self.whole)

    def begin(self, size):
        cdef Py_ssize_t missing = max(0, min(size, PY_SSIZE_T_MAX))
        with cython.critical_section(self):
            Py_CLEAR(self.whole)
            self.filled = 0
            self.missing = missing

    @cython.critical_section
    def take(self, bytes chunk not None, Py_ssize_t position):
        cdef Py_ssize_t end = PyBytes_GET_SIZE(chunk)
        cdef const char* text
        cdef Py_ssize_t size
        cdef bytes whole
        if not 0 <= position <= end:
            raise IndexError(position)
        text = PyBytes_AS_STRING(chunk) + position
        size = min(self.missing, end - position)
        if self.whole == NULL and size == self.missing:
            self.missing = 0
            return PyBytes_FromStringAndSize(text, size), position + size
        if size:
            try:
                self.reserve(size)
            except MemoryError:
                # What had come may be gone, and nothing may be put behind room that was never written.
                Py_CLEAR(self.whole)
                self.filled = self.missing = 0
                raise
            memcpy(content_of(self.whole) + self.filled, text, size)
            self.filled += size
            self.missing -= size
        if self.missing:
            return None, end
        whole = <bytes>self.whole
        Py_CLEAR(self.whole)
        return whole, position + size

    cdef int reserve(self, Py_ssize_t size) except -1:
        """Room for the next piece. `MemoryError`, with what had come forgotten, when there is none."""
        cdef Py_ssize_t wanted = self.filled + size
        cdef PyObject* moved
        if self.whole != NULL and wanted <= size_of(self.whole):
            return 0
        # Room for a quarter more than has come, or for as much again when that is much: to grow seldom leaves more of
        # the pages large, and the system gives memory for nothing but what is written.
        wanted += wanted if wanted >= LARGE_PAGES_FROM else wanted // 4
        wanted = (wanted // STEP + 1) * STEP
        # In the end the object has just the size that it was to have, and what is small has it from the beginning.
        if self.missing <= max(wanted, AT_ONCE) - self.filled:
            wanted = self.filled + self.missing
        if self.whole == NULL:
            self.whole = new_bytes(NULL, wanted)
        elif may_grow(self.whole):
            resize_bytes(&self.whole, wanted)
        else:
            moved = new_bytes(NULL, wanted)
            memcpy(content_of(moved), content_of(self.whole), self.filled)
            Py_CLEAR(self.whole)
            self.whole = moved
        if wanted >= LARGE_PAGES_FROM:
            wish_large_pages(content_of(self.whole), wanted)
        return 0


# --- answers for tasks of asyncio ------------------------------------------------------------------------------------


@cython.final
cdef class TaskAnswers:
    """The answers that are over, and whose tasks are to be woken. See the Python twin."""

    cdef readonly object loop
    cdef readonly object cancelled
    cdef list over
    cdef bint called

    def __cinit__(self, loop, cancelled):
        self.loop = loop
        self.cancelled = cancelled
        self.over = []
        self.called = False

    cpdef add(self, TaskAnswer answer):
        self.over.append(answer)
        if not self.called:
            self.loop.call_soon(self.resume)
            # Behind it: after an interrupt in between the loop calls twice. The other way round it never would.
            self.called = True

    def resume(self):
        cdef list over = self.over
        cdef Py_ssize_t at = 0, count = PyList_GET_SIZE(over)
        self.called = False
        self.over = []
        try:
            while at < count:
                at += 1
                (<TaskAnswer>PyList_GET_ITEM(over, at - 1)).resume()
        finally:
            if at < count:
                self.over[:0] = over[at:]
                self.add(self.over.pop())


@cython.final
# What comes from this list is not counted as new by the collector, which so runs less often.
@cython.freelist(4096)
cdef class TaskAnswer:
    """One wake-up, with or without an answer. See the Python twin."""

    cdef TaskAnswers answers
    cdef object wake_task
    cdef object context
    cdef object cancelled
    cdef readonly object token
    cdef readonly object message
    cdef readonly object error
    cdef readonly double deadline
    cdef bint finished
    cdef readonly bint given
    cdef public bint over
    cdef public bint _asyncio_future_blocking

    def __cinit__(self, TaskAnswers answers not None, double deadline, token):
        self.answers = answers
        self.deadline = deadline
        self.token = token
        self.finished = self.given = self.over = self._asyncio_future_blocking = False

    def give(self, message=None, error=None):
        self.given = True
        self.message = message
        self.error = error
        if not self.over:
            self.finish()

    def wake(self):
        if not self.over:
            self.finish()

    def take(self):
        taken = self.message, self.error
        self.message = self.error = None
        return taken

    cdef finish(self):
        if not self.finished:
            self.finished = True
            if self.wake_task is not None:
                self.answers.add(self)

    cpdef resume(self):
        wake_task, context = self.wake_task, self.context
        self.wake_task = self.context = None
        if wake_task is not None and context is not None:
            context.run(wake_task, self)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        if not self.finished:
            self._asyncio_future_blocking = True
            return self
        self.result()
        raise StopIteration

    def get_loop(self):
        return self.answers.loop

    def add_done_callback(self, wake_task, *, context):
        self.wake_task = wake_task
        self.context = context
        if self.finished:
            self.answers.add(self)

    def cancel(self, msg=None):
        if self.finished:
            return False
        self.cancelled = self.answers.cancelled() if msg is None else self.answers.cancelled(msg)
        self.finish()
        return True

    cpdef result(self):
        if self.cancelled is not None:
            raise self.cancelled


# --- answers for tasks of trio ---------------------------------------------------------------------------------------


@cython.final
cdef class TrioAnswers:
    """By what answers put tasks to sleep and wake them. See the Python twin."""

    cdef readonly object current_task
    cdef readonly object reschedule
    cdef readonly object trap
    cdef readonly object woken

    def __cinit__(self, current_task, reschedule, trap, woken):
        self.current_task = current_task
        self.reschedule = reschedule
        self.trap = trap
        self.woken = woken


@cython.final
@cython.freelist(4096)  # as above
cdef class TrioAnswer:
    """One wake-up, with or without an answer. See the Python twin."""

    cdef TrioAnswers answers
    cdef object task
    cdef readonly object token
    cdef readonly object message
    cdef readonly object error
    cdef readonly double deadline
    cdef bint finished
    cdef readonly bint given
    cdef public bint over

    def __cinit__(self, TrioAnswers answers not None, double deadline, token):
        self.answers = answers
        self.deadline = deadline
        self.token = token
        self.finished = self.given = self.over = False

    def give(self, message=None, error=None):
        self.given = True
        self.message = message
        self.error = error
        if not self.over:
            self.finish()

    def wake(self):
        if not self.over:
            self.finish()

    def take(self):
        taken = self.message, self.error
        self.message = self.error = None
        return taken

    cdef finish(self):
        cdef object task = self.task
        self.finished = True
        self.task = None
        if task is not None and task.custom_sleep_data is self:
            self.answers.reschedule(task, self.answers.woken)

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        cdef object task
        if self.finished:
            raise StopIteration
        task = self.answers.current_task()
        task.custom_sleep_data = self
        self.task = task
        return self.answers.trap

    def send(self, outcome):
        self.task = None
        if outcome is not self.answers.woken:
            outcome.unwrap()
        raise StopIteration


# --- answers for threads ---------------------------------------------------------------------------------------------


cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock
    enum:
        NOWAIT_LOCK
        PY_LOCK_INTR
    PyThread_type_lock PyThread_allocate_lock() noexcept
    void PyThread_free_lock(PyThread_type_lock lock) noexcept
    int PyThread_acquire_lock(PyThread_type_lock lock, int wait) noexcept nogil
    int PyThread_acquire_lock_timed(PyThread_type_lock lock, long long microseconds, int interruptible) noexcept nogil
    void PyThread_release_lock(PyThread_type_lock lock) noexcept nogil

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

cdef double LONGEST_SLEEP = _SLICE


@cython.final
cdef class ThreadAnswers:
    """The answers that are given, in order, whose threads still sleep. See the Python twin."""

    cdef readonly object new_lock
    cdef object line
    cdef object take_first
    cdef readonly Py_ssize_t gone

    def __cinit__(self, new_lock):
        self.new_lock = new_lock
        self.line = _deque()
        self.take_first = self.line.popleft
        self.gone = 0

    def __len__(self):
        return len(self.line)

    cpdef add(self, ThreadAnswer answer):
        self.line.append(answer)

    cdef ThreadAnswer first_asleep(self):
        cdef ThreadAnswer answer
        while self.line:
            answer = self.take_first()
            self.gone += 1
            if answer.asleep:
                return answer
        return None

    cpdef bint wake_next(self) except -1:
        cdef ThreadAnswer answer = self.first_asleep()
        return answer is not None and answer.wake()

    def wake_all(self):
        while self.wake_next():
            pass


@cython.final
@cython.freelist(256)
cdef class ThreadAnswer:
    """One answer, and the sleep of the one thread that waits for it. See the Python twin."""

    cdef ThreadAnswers answers
    cdef PyThread_type_lock lock
    cdef readonly bint asleep
    cdef readonly bint given
    cdef readonly object message
    cdef readonly object error

    def __cinit__(self, ThreadAnswers answers not None):
        self.answers = answers
        self.lock = NULL
        self.asleep = self.given = False

    def __dealloc__(self):
        # Nobody waits for it: who sleeps has a reference, and so has who wakes it.
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    cpdef give(self, message=None, error=None):
        if not self.given:
            self.message = message
            self.error = error
            self.given = True
            self.wake()

    cpdef line_up(self, message):
        if not self.given:
            self.message = message
            self.given = True
            if self.asleep:
                self.answers.add(self)

    cpdef bint wake(self) except -1:
        if not self.asleep:
            return False
        PyThread_release_lock(self.lock)
        return True

    def sleep(self, double seconds):
        cdef ThreadAnswer following
        cdef PyThread_type_lock lock
        cdef PyThread_type_lock next_lock = NULL
        cdef long long microseconds = 0
        cdef int status
        if self.given:
            return True
        if self.lock == NULL:
            lock = PyThread_allocate_lock()
            if lock == NULL:
                raise MemoryError
            PyThread_acquire_lock(lock, NOWAIT_LOCK)
            self.lock = lock
        lock = self.lock
        if seconds > 0.0:
            # Rounded up: who woke too early would sleep again.
            microseconds = <long long>((seconds if seconds < LONGEST_SLEEP else LONGEST_SLEEP) * 1e6) + 1
        # Before anything that may run other code: who gives the answer from now on releases the lock.
        self.asleep = True
        try:
            following = self.answers.first_asleep()
            if following is not None:
                next_lock = following.lock
            with nogil:
                if next_lock != NULL:
                    PyThread_release_lock(next_lock)
                status = PyThread_acquire_lock_timed(lock, microseconds, 1)
        finally:
            self.asleep = False
        if status == PY_LOCK_INTR:
            PyErr_CheckSignals()
        return self.given

    def take(self):
        taken = self.message, self.error
        self.message = self.error = None
        return taken


# --- requests --------------------------------------------------------------------------------------------------------


@cython.final
@cython.no_gc
@cython.freelist(4096)
cdef class Waiting:
    """A request. See the Python twin. Not known to the collector there either."""

    cdef readonly object token
    cdef readonly object subject
    cdef readonly object accept

    def __cinit__(self, token, subject, accept):
        self.token = token
        self.subject = subject
        self.accept = accept


@cython.final
cdef class Requests:
    """The requests of one session that are waited for. See the Python twin."""

    cdef str base
    cdef str drawn
    cdef object draw
    cdef object otherwise
    cdef object completed
    cdef Tail tail
    cdef Py_ssize_t at
    cdef Py_ssize_t start
    cdef uint64_t next_token
    cdef public bint subscribed
    cdef readonly dict waiting
    cdef readonly dict tokens

    def __cinit__(self, str base not None, draw, Tail tail not None, otherwise, completed):
        self.base = base
        self.start = PyUnicode_GET_LENGTH(base)
        self.draw = draw
        self.drawn = ""
        self.at = 0
        self.tail = tail
        self.otherwise = otherwise
        self.completed = completed
        self.next_token = 1
        self.subscribed = False
        self.waiting = {}
        self.tokens = {}

    def ask(self, subject, data, headers, accept):
        cdef str key = self.next_key()
        cdef str reply = self.base + key
        if not self.subscribed or not self.publish(subject, data, reply, headers):
            self.otherwise(subject, data, reply, headers)
        return self.remember(key, subject, accept)

    def ask_quickly(self, subject, data, headers, accept):
        cdef str key
        if not self.subscribed or self.tail.size >= self.tail.least:
            return 0
        key = self.next_key()
        if not self.publish(subject, data, self.base + key, headers):
            return 0
        return self.remember(key, subject, accept)

    cdef str next_key(self):
        cdef Py_ssize_t at
        if self.at == PyUnicode_GET_LENGTH(self.drawn):
            self.drawn = self.draw()
            self.at = 0
        at = self.at
        self.at = at + KEY_LENGTH
        return self.drawn[at : at + KEY_LENGTH]

    cdef bint publish(self, subject, data, str reply, headers) except -1:
        cdef bint taken
        with cython.critical_section(self.tail):
            taken = self.tail.take_publish(subject, data, reply, headers)
        return taken

    cdef object remember(self, str key, subject, accept):
        cdef object token = PyLong_FromUnsignedLongLong(self.next_token)
        self.next_token += 1
        self.waiting[key] = Waiting.__new__(Waiting, token, subject, accept)
        self.tokens[token] = key
        return token

    cpdef answer(self, message, token=0):
        cdef object subject = message.subject, key, found
        cdef Waiting waiting
        cdef PyObject* arguments[3]
        key = subject[self.start :]
        found = self.waiting.get(key)
        if found is None or message.header_block is not None:
            return None
        waiting = <Waiting?>found
        if waiting.accept is not None or (token and token != waiting.token):
            return None
        self.waiting.pop(key, None)
        self.tokens.pop(waiting.token, None)
        arguments[0] = NULL
        arguments[1] = <PyObject*>waiting.token
        arguments[2] = <PyObject*>message
        return PyObject_Vectorcall(self.completed, &arguments[1], 2 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)

    def complete(self, messages, otherwise):
        cdef list completions = []
        cdef object message, completion
        for message in messages:
            completion = self.answer(message)
            if completion is None:
                completion = otherwise(message)
            if completion is not None:
                completions.append(completion)
        return completions


# --- what waits for its acknowledgement ------------------------------------------------------------------------------


cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, unsigned int largest)
    object PyFloat_FromDouble(double value)

cdef tuple ACK_NAMES = ("stream", "sequence")
cdef double PAUSE = 0.1
cdef Py_ssize_t MAX_SUBJECTS = 64


@cython.final
cdef class ReplySlot:
    """A reply subject that may be used more than once. See the Python twin."""

    cdef readonly str reply
    cdef list home
    cdef Py_ssize_t generation
    cdef object stream
    cdef object domain
    cdef uint64_t sequence

    cpdef bint is_later(self, pub_ack) except -1:
        return self.stream is None or (
            <uint64_t>pub_ack.sequence > self.sequence
            and pub_ack.stream == self.stream
            and pub_ack.domain == self.domain
            and not pub_ack.duplicate
        )


@cython.final
cdef class InFlight:
    """Publishes whose answers are waited for. See the Python twin.

    What is called here (of the interpreter, of a struct, of a tail) is no Python code, so every call is one step.

    Of the acknowledgements of one stream nearly all are the same bytes but for the number at their end. So the beginning
    of the last one that was read is kept together with the stream that it tells. Where the same beginning is followed by
    another number, the acknowledgement is that stream and that number, and need not be read as JSON.
    """

    cdef bytes prefix
    cdef object make
    cdef object plain
    cdef object held
    cdef double timeout
    cdef readonly dict waiting
    cdef readonly Py_ssize_t number
    cdef public Py_ssize_t limit
    cdef public object owner
    cdef public double look
    cdef public Py_ssize_t own
    cdef dict homes
    cdef Py_ssize_t kept
    cdef Py_ssize_t generation
    cdef double begun  # when the last one was
    cdef object reply  # of what was begun last
    cdef ReplySlot slot
    cdef bytes head  # of the last acknowledgement that was read, up to its number; None: there is none
    cdef object stream
    cdef object ack_type

    def __cinit__(self, prefix, make, plain, held, timeout):
        self.prefix = prefix.encode("ascii")
        self.make = make
        self.plain = plain
        self.held = held
        self.timeout = timeout
        self.waiting = {}
        self.homes = {}
        self.number = self.limit = self.kept = self.generation = 0
        self.own = PY_SSIZE_T_MAX
        self.begun = 0.0
        self.look = float("inf")
        self.slot = None
        self.reply = self.owner = self.head = self.stream = self.ack_type = None

    @cython.critical_section
    def begin(self, subject, data, headers, now):
        return self.add(subject, data, headers, now)

    @cython.critical_section
    def publish(self, quickly, subject, data, now):
        cdef object pending, reply
        cdef ReplySlot slot
        cdef Py_ssize_t number
        if type(data) is not bytes:
            return None
        pending = self.add(subject, data, None, now)
        if pending is None:
            return None
        number = self.number
        reply = self.reply
        slot = self.slot
        try:
            if quickly(subject, data, reply, None):
                return pending
        except BaseException:
            self.waiting.pop(reply, None)
            raise
        del self.waiting[reply]
        if slot is not None and slot.stream is not None:
            self.keep(slot)
        self.number = number - 1
        return None

    @cython.critical_section
    def forget(self):
        self.forget_all()

    cdef int forget_all(self) except -1:
        self.homes = {}
        self.kept = 0
        self.generation += 1
        return 0

    cdef ReplySlot take_slot(self, subject, double now):
        cdef double begun = self.begun
        cdef object found
        cdef list home
        cdef ReplySlot slot
        self.begun = now
        if now - begun > PAUSE:
            self.forget_all()
        found = self.homes.get(subject)
        if found is None:
            if len(self.homes) >= MAX_SUBJECTS:
                return None
            found = self.homes[subject] = []
        home = <list>found
        if len(home):
            self.kept -= 1
            return <ReplySlot>home.pop()
        slot = ReplySlot.__new__(ReplySlot)
        slot.reply = self.reply_subject(self.number)
        slot.home = home
        slot.generation = self.generation
        return slot

    cdef int keep(self, ReplySlot slot) except -1:
        if self.kept < self.limit and slot.generation == self.generation:
            self.kept += 1
            slot.home.append(slot)
        return 0

    cdef object reply_subject(self, Py_ssize_t number):
        cdef unsigned char digits[20]
        cdef Py_ssize_t first = write_digits(number, digits), size = PyBytes_GET_SIZE(self.prefix)
        cdef object reply = PyUnicode_New(size + 20 - first, 127)
        cdef unsigned char* to = <unsigned char*>PyUnicode_1BYTE_DATA(reply)
        put(put(to, PyBytes_AS_STRING(self.prefix), size), digits + first, 20 - first)
        return reply

    cdef object add(self, subject, data, headers, now):
        cdef object reply, number, until, pending
        cdef ReplySlot slot = None
        cdef PyObject* arguments[11]
        cdef double deadline
        if len(self.waiting) >= self.limit or len(self.held):
            return None
        deadline = <double>now + self.timeout
        self.number += 1
        if self.number > self.own and headers is None:
            slot = self.take_slot(subject, now)
        reply = self.reply_subject(self.number) if slot is None else slot.reply
        number = self.number
        until = deadline
        arguments[0] = NULL
        arguments[1] = <PyObject*>subject
        arguments[2] = <PyObject*>data
        arguments[3] = <PyObject*>headers
        arguments[4] = <PyObject*>reply
        arguments[5] = <PyObject*>number
        arguments[6] = <PyObject*>now
        arguments[7] = <PyObject*>now
        arguments[8] = <PyObject*>until
        arguments[9] = <PyObject*>self.owner
        arguments[10] = <PyObject*>slot
        pending = PyObject_Vectorcall(self.make, &arguments[1], 10 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)
        self.waiting[reply] = pending
        if deadline < self.look:
            self.look = deadline
        self.reply = reply
        self.slot = slot
        return pending

    @cython.critical_section
    def look_by(self, double deadline):
        if deadline < self.look:
            self.look = deadline

    @cython.critical_section
    def complete(self, arrived, ended):
        cdef Py_ssize_t count = 0
        cdef object message, subject, data, pending, pub_ack, found, append = ended.append
        cdef ReplySlot slot
        cdef uint64_t number = 0
        try:
            for message in arrived:
                subject = message.subject
                pending = self.waiting.get(subject)
                if pending is None:
                    break
                data = message.data
                found = pending.slot
                slot = None if found is None else <ReplySlot?>found
                if self.knows(data, &number):
                    # What is known has no domain, and is no duplicate.
                    if slot is not None and slot.stream is not None and not (
                        number > slot.sequence and slot.domain is None and slot.stream == self.stream
                    ):
                        break
                    pub_ack = self.known(number)
                else:
                    pub_ack = self.plain(data)
                    if pub_ack is None or (slot is not None and not slot.is_later(pub_ack)):
                        break
                    self.learn(data, pub_ack)
                count += 1
                del self.waiting[subject]
                pending.pub_ack = pub_ack
                append(pending)
                if slot is not None and not pub_ack.duplicate:
                    slot.stream = pub_ack.stream
                    slot.domain = pub_ack.domain
                    slot.sequence = pub_ack.sequence
                    self.keep(slot)
        finally:
            if count == len(arrived):
                arrived.clear()
            else:
                while count:
                    arrived.popleft()
                    count -= 1

    cdef bint knows(self, data, uint64_t* number) except -1:
        """Whether the acknowledgement begins like the last one that was read, and its number."""
        cdef Py_ssize_t size, begin
        cdef Bytes text
        if self.head is None or type(data) is not bytes:
            return False
        begin = PyBytes_GET_SIZE(self.head)
        size = PyBytes_GET_SIZE(data)
        text = <Bytes>PyBytes_AS_STRING(data)
        if size < begin + 2 or memcmp(text, PyBytes_AS_STRING(self.head), begin) != 0:
            return False
        return read_sequence(text, begin, size, number)

    cdef object known(self, uint64_t number):
        """The acknowledgement that begins like the last one that was read."""
        cdef object sequence = PyLong_FromUnsignedLongLong(number)
        cdef PyObject* arguments[3]
        arguments[0] = NULL
        arguments[1] = <PyObject*>self.stream
        arguments[2] = <PyObject*>sequence
        return PyObject_Vectorcall(
            self.ack_type, &arguments[1], PY_VECTORCALL_ARGUMENTS_OFFSET, <PyObject*>ACK_NAMES
        )

    cdef int learn(self, bytes data, pub_ack) except -1:
        """Keep its beginning, if it says nothing but a stream and a number, and the number comes last."""
        cdef Bytes text = <Bytes>PyBytes_AS_STRING(data)
        cdef Py_ssize_t size = PyBytes_GET_SIZE(data), begin = size - 1
        cdef uint64_t number = 0
        while begin > 0 and 48 <= text[begin - 1] <= 57:
            begin -= 1
        # Behind a colon or a blank the digits are the whole number. In 12e3 they would be a part of one.
        if begin < 1 or (text[begin - 1] != 58 and text[begin - 1] != 32):
            return 0
        if not read_sequence(text, begin, size, &number):
            return 0
        if pub_ack != type(pub_ack)(stream=pub_ack.stream, sequence=PyLong_FromUnsignedLongLong(number)):
            return 0
        self.head = data[:begin]
        self.stream = pub_ack.stream
        self.ack_type = type(pub_ack)
        return 0


cdef inline bint read_sequence(Bytes text, Py_ssize_t at, Py_ssize_t size, uint64_t* number) noexcept nogil:
    """Read a number as JSON has it, from ``at`` to the brace that is the last byte; False when it is anything else."""
    cdef uint64_t value = 0
    if size < at + 2 or size - 1 - at > MAX_DIGITS or text[size - 1] != 125:
        return False
    if text[at] == 48 and size - 1 - at > 1:
        return False
    while at < size - 1:
        if not 48 <= text[at] <= 57:
            return False
        value = value * 10 + (text[at] - 48)
        at += 1
    number[0] = value
    return True


# --- what consumers deliver ------------------------------------------------------------------------------------------


@cython.final
cdef class MessageMaker:
    """Makes the messages of a consumer. See the Python twin."""

    cdef object kind
    cdef object client
    cdef object writing
    cdef public object delivery

    def __cinit__(self, kind, client, writing, delivery):
        self.kind = kind
        self.client = client
        self.writing = writing
        self.delivery = delivery

    def __call__(self, message, now):
        return self.made(message, message.reply, message.subject, now)

    cdef object made(self, message, reply, subject, now):
        cdef object sid = message.sid, data = message.data, block = message.header_block, parsed = message.parsed
        cdef object delivery = self.delivery
        cdef PyObject* arguments[11]
        arguments[0] = NULL
        arguments[1] = <PyObject*>subject
        arguments[2] = <PyObject*>sid
        arguments[3] = <PyObject*>reply
        arguments[4] = <PyObject*>data
        arguments[5] = <PyObject*>block
        arguments[6] = <PyObject*>parsed
        arguments[7] = <PyObject*>self.client
        arguments[8] = <PyObject*>self.writing
        arguments[9] = <PyObject*>delivery
        arguments[10] = <PyObject*>now
        return PyObject_Vectorcall(self.kind, &arguments[1], 10 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL)


cdef tuple ENTRY_NAMES = ("bucket", "key", "data", "revision", "stored", "delta", "operation", "codec")
cdef object PUT = "put"
cdef object NONE_BEHIND = 0


cdef struct Last:
    # What a server tells of the last message of a subject. The texts are in its header block.
    Bytes subject
    Py_ssize_t subject_size
    uint64_t sequence
    Bytes time
    Py_ssize_t time_size


cdef inline bint passes(Bytes text, Py_ssize_t* at, Py_ssize_t end, const char* what, Py_ssize_t size) noexcept nogil:
    """Go past these bytes, if they stand there."""
    if not starts(text, at[0], end, what, size):
        return False
    at[0] += size
    return True


cdef inline Py_ssize_t printable(Bytes text, Py_ssize_t at, Py_ssize_t end) noexcept nogil:
    """Where the printable bytes end that begin here."""
    while at < end and 33 <= text[at] <= 126:
        at += 1
    return at


cdef inline int two_digits(Bytes text) noexcept nogil:
    """A number of two digits; -1 for anything else."""
    if not 48 <= text[0] <= 57 or not 48 <= text[1] <= 57:
        return -1
    return (text[0] - 48) * 10 + text[1] - 48


cdef bint is_time(Bytes text, Py_ssize_t size) noexcept nogil:
    """Whether it is for certain one of UTC as RFC 3339 has it, from the year 2000 on."""
    cdef int month, day
    cdef Py_ssize_t at
    if size < 20 or text[0] < 50 or two_digits(text) < 0 or two_digits(text + 2) < 0 or text[size - 1] != 90:
        return False
    if text[4] != 45 or text[7] != 45 or text[10] != 84 or text[13] != 58 or text[16] != 58:
        return False
    month, day = two_digits(text + 5), two_digits(text + 8)
    if month < 1 or month > 12 or day < 1 or day > 31 or (month == 2 and day > 28):
        return False
    if day == 31 and (month == 4 or month == 6 or month == 9 or month == 11):
        return False
    if not 0 <= two_digits(text + 11) <= 23 or not 0 <= two_digits(text + 14) <= 59:
        return False
    if not 0 <= two_digits(text + 17) <= 59:
        return False
    if size == 20:
        return True
    if text[19] != 46 or not 22 <= size <= 30:
        return False
    for at in range(20, size - 1):
        if not 48 <= text[at] <= 57:
            return False
    return True


cdef bint read_last(Bytes text, Py_ssize_t size, Last* told) noexcept nogil:
    """Read a block that is what `_LAST` of the Python twin says; False for any other."""
    cdef Py_ssize_t at = 0, end
    if not passes(text, &at, size, b"NATS/1.0\r\nNats-Stream: ", 23):
        return False
    end = printable(text, at, size)
    if end == at:
        return False
    at = end
    if not passes(text, &at, size, b"\r\nNats-Subject: ", 16):
        return False
    end = printable(text, at, size)
    if end == at:
        return False
    told.subject = text + at
    told.subject_size = end - at
    at = end
    if not passes(text, &at, size, b"\r\nNats-Sequence: ", 17):
        return False
    if at == size or text[at] == 48:
        return False
    told.sequence = 0
    end = at
    while at < size and 48 <= text[at] <= 57:
        if at - end == MAX_DIGITS - 1:
            return False
        told.sequence = told.sequence * 10 + (text[at] - 48)
        at += 1
    if at == end or not passes(text, &at, size, b"\r\nNats-Time-Stamp: ", 19):
        return False
    end = printable(text, at, size)
    told.time = text + at
    told.time_size = end - at
    return is_time(told.time, told.time_size) and size - end == 4 and passes(text, &end, size, b"\r\n\r\n", 4)


@cython.final
cdef class EntryMaker:
    """Makes the entries of a bucket. See the Python twin."""

    cdef object kind
    cdef object bucket
    cdef str start
    cdef object codec
    cdef tuple telling
    cdef readonly object key
    cdef readonly Py_ssize_t bytes

    def __cinit__(self, kind, bucket, str start not None, codec, telling):
        self.kind = kind
        self.bucket = bucket
        self.start = start
        self.codec = codec
        self.telling = tuple(telling)
        self.key = ""
        self.bytes = 0

    def make(self, message, revision, stored, delta):
        return self.made(message, message.subject, revision, stored, delta)

    def last(self, message, subject):
        cdef object block = message.header_block, entry
        cdef Last told
        cdef Py_ssize_t start = PyUnicode_GET_LENGTH(self.start), size
        if type(block) is not bytes or type(subject) is not str or not PyUnicode_IS_ASCII(subject):
            return None
        if PyUnicode_Tailmatch(subject, self.start, 0, PY_SSIZE_T_MAX, -1) != 1:
            return None
        if not read_last(<Bytes>PyBytes_AS_STRING(block), PyBytes_GET_SIZE(block), &told):
            return None
        size = PyUnicode_GET_LENGTH(subject)
        if told.subject_size != size or memcmp(told.subject, PyUnicode_1BYTE_DATA(subject), size) != 0:
            return None
        return self.entry(
            PyUnicode_Substring(subject, start, size),
            message.data,
            PyLong_FromUnsignedLongLong(told.sequence),
            decode(told.time, 0, told.time_size),
            NONE_BEHIND,
        )

    cdef object made(self, message, subject, revision, stored, delta):
        cdef object block, name, data, key
        if type(subject) is not str or PyUnicode_Tailmatch(subject, self.start, 0, PY_SSIZE_T_MAX, -1) != 1:
            return None
        block = message.header_block
        if block is not None:
            for name in self.telling:
                if name in block:
                    return None
        data = message.data
        key = PyUnicode_Substring(subject, PyUnicode_GET_LENGTH(self.start), PyUnicode_GET_LENGTH(subject))
        self.key = key
        self.bytes += len(data)
        return self.entry(key, data, revision, stored, delta)

    cdef object entry(self, key, data, revision, stored, delta):
        cdef PyObject* arguments[9]
        arguments[0] = NULL
        arguments[1] = <PyObject*>self.bucket
        arguments[2] = <PyObject*>key
        arguments[3] = <PyObject*>data
        arguments[4] = <PyObject*>revision
        arguments[5] = <PyObject*>stored
        arguments[6] = <PyObject*>delta
        arguments[7] = <PyObject*>PUT
        arguments[8] = <PyObject*>self.codec
        return PyObject_Vectorcall(
            self.kind, &arguments[1], PY_VECTORCALL_ARGUMENTS_OFFSET, <PyObject*>ENTRY_NAMES
        )


@cython.final
cdef class Deliveries:
    """The account of a machine, and the quick way past it. See the Python twin.

    What is called here is no Python code, and makes nothing that would have the collector run. So `take` is one step.
    """

    cdef MessageMaker make  # None: there is no quick way
    cdef object items
    cdef object wants
    cdef public bint plain
    cdef public Py_ssize_t messages
    cdef public double heard
    cdef public object newest
    cdef public Py_ssize_t low
    cdef public Py_ssize_t left
    cdef public double look_at
    cdef public object queue
    cdef public Py_ssize_t budget
    cdef object start  # of reply subjects, as a text that was given
    cdef bytes start_bytes  # and as it is compared; None where nothing can begin so
    cdef public Py_ssize_t expected
    cdef public Py_ssize_t sequence

    def __cinit__(self, make=None, items=(), wants=()):
        self.make = make if type(make) is MessageMaker else None
        self.items = items
        self.wants = wants
        self.plain = False
        self.messages = 0
        self.heard = float("-inf")
        self.look_at = float("inf")
        self.low = -PY_SSIZE_T_MAX
        self.left = self.budget = PY_SSIZE_T_MAX
        self.newest = self.queue = self.start = self.start_bytes = None
        self.expected = 1
        self.sequence = 0

    @property
    def prefix(self):
        return self.start

    @prefix.setter
    def prefix(self, value):
        cdef bytes start = value.encode("ascii") if type(value) is str and value.isascii() else None
        with cython.critical_section(self):
            self.start = value
            self.start_bytes = start

    @cython.critical_section
    def take(self, now):
        cdef double at = now
        cdef Py_ssize_t sequence = 0
        cdef object queue = self.queue, message, reply, subject, item
        if queue is None or self.make is None or not self.plain or at >= self.look_at:
            return None
        if self.budget < 1 or self.left < 2 or self.messages - 1 <= self.low or len(queue) < 2:
            return None
        if len(self.items) or len(self.wants):
            return None
        message = queue[0]
        reply = message.reply
        if reply is None:
            return None
        subject = message.subject
        if not subject:
            return None
        if self.start is not None:
            sequence = next_sequence(reply, self.start_bytes, self.expected)
            if sequence <= self.sequence:
                return None
        item = self.make.made(message, reply, subject, now)
        queue.popleft()
        self.messages -= 1
        self.left -= 1
        self.budget -= 1
        self.heard = at
        self.newest = reply
        if self.start is not None:
            self.expected += 1
            self.sequence = sequence
        return item

    @cython.critical_section
    def take_entries(
        self, EntryMaker make not None, arrived, give, now, most=PY_SSIZE_T_MAX, latest=None, set keys=None
    ):
        cdef double at = now
        cdef Py_ssize_t taken = 0, bound = most, until = -1 if latest is None else latest
        cdef uint64_t numbers[NUMBERS]
        cdef object message, reply, subject, revision, stored, pending, entry
        if self.start is None or not self.plain or at >= self.look_at:
            return 0
        try:
            for message in arrived:
                if taken >= bound or self.left < 2 or self.messages - 1 <= self.low:
                    break
                reply = message.reply
                if reply is None:
                    break
                subject = message.subject
                if not subject or not read_numbers(reply, self.start_bytes, numbers, 5):
                    break
                if numbers[2] != <uint64_t>self.expected or numbers[1] <= <uint64_t>self.sequence:
                    break
                if until >= 0 and (numbers[4] == 0 or numbers[3] > <uint64_t>until):
                    break
                revision = numbers[1]
                stored = PyLong_FromUnsignedLongLong(numbers[3])
                pending = numbers[4]
                entry = make.made(message, subject, revision, stored, pending)
                if entry is None:
                    break
                taken += 1
                give(entry)
                if keys is not None:
                    keys.add(make.key)
                self.messages -= 1
                self.left -= 1
                self.heard = at
                self.newest = reply
                self.expected += 1
                self.sequence = <Py_ssize_t>numbers[1]
        finally:
            if taken == len(arrived):
                arrived.clear()
            else:
                for bound in range(taken):
                    arrived.popleft()
        return taken


cdef Py_ssize_t next_sequence(reply, bytes start, Py_ssize_t expected):
    """See the Python twin."""
    cdef uint64_t numbers[NUMBERS]
    if not read_numbers(reply, start, numbers, 3) or numbers[2] != <uint64_t>expected:
        return 0
    return <Py_ssize_t>numbers[1]


cdef bint read_numbers(reply, bytes start, uint64_t* numbers, Py_ssize_t count):
    """Read that many numbers of a reply subject, each with a dot behind it; but for the fifth, which may be the last.

    The fourth is a time, and may have one digit more than the others.
    """
    cdef Bytes text
    cdef Py_ssize_t at, size, begin, index
    cdef uint64_t value
    if start is None or type(reply) is not str or not PyUnicode_IS_ASCII(reply):
        return False
    text = PyUnicode_1BYTE_DATA(reply)
    size = PyUnicode_GET_LENGTH(reply)
    at = PyBytes_GET_SIZE(start)
    if not starts(text, 0, size, PyBytes_AS_STRING(start), at):
        return False
    for index in range(count):
        begin = at
        value = 0
        while at < size and 48 <= text[at] <= 57:
            if at - begin == (MAX_DIGITS if index == 3 else MAX_DIGITS - 1):
                return False
            value = value * 10 + (text[at] - 48)
            at += 1
        if at == begin:
            return False
        numbers[index] = value
        if at == size:
            return index == 4
        if text[at] != 46:
            return False
        at += 1
    return True
