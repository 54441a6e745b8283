# SPDX-License-Identifier: GPL-2.0-only
"""What a flush of the TLBs of other CPUs costs on this machine, measured here.

A region of this process is paged out by MADV_PAGEOUT, or, where no swap is free, two pages
are given back (MADV_DONTNEED), over and over, while threads keep 0, 1, .. other CPUs busy
in the same address space.  What it takes longer with them is the flush.  With MADV_PAGEOUT
the base kernel flushes once for each page, as in reclaim.

The other threads read memory within one long call of zlib, which needs no lock of Python.
No other task runs meanwhile on these CPUs.  The fastest of many short rounds is a flush that
nothing interrupted; the mean has what a hypervisor takes away, as reclaim's flushes have.
"""
import ctypes
import mmap
import os
import random
import threading
import time
import zlib

from live import counters

PAGE = mmap.PAGESIZE
PAGES = 128             # of the region: half a millisecond to two
SPARE_KIB = 64 << 10    # of swap that must be free, or none of it is used
# For MADV_DONTNEED: so many pages are flushed whole on x86 (tlb_single_page_flush_ceiling 33).
SPAN = 64
READ_MIB = 16           # for one call of zlib: 10 ms, and 100 when emulated
MADV_PAGEOUT = 21       # not in Python's mmap module; since Linux 5.4
NEAR = 0.15             # a round counts if it had so nearly an IPI for each flush and CPU
ENOUGH = 40             # such rounds; all CPUs are kept from other work meanwhile
FEWEST = 4              # rounds, and calls of the interrupted, that tell something
LIBC = ctypes.CDLL(None, use_errno=True)


def spread(values):
    """The least, the median, the mean."""
    values = sorted(values)
    return [values[0], values[(len(values) - 1) // 2], sum(values) / len(values)]


class Others:
    """Threads, each on a CPU of its own, that read memory of this address space."""

    def __init__(self):
        # Never written: one page of zeroes, mapped all over.
        self.memory = mmap.mmap(-1, READ_MIB << 20, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS,
                                prot=mmap.PROT_READ)
        self.threads, self.ended, self.calls = [], False, []

    def start(self, cpu):
        """One more."""
        thread = threading.Thread(target=self.read, args=(cpu, len(self.threads)), daemon=True)
        self.calls.append([])
        self.threads.append(thread)
        thread.start()
        while not self.calls[-1]:
            time.sleep(0.01)

    def read(self, cpu, place):
        """Until ended; a call's (begin, end)."""
        os.sched_setaffinity(0, {cpu})
        first_of_all()
        while not self.ended:
            begin = time.monotonic()
            zlib.crc32(self.memory)
            self.calls[place].append((begin, time.monotonic()))

    def end(self):
        """Wait for all."""
        self.ended = True
        for thread in self.threads:
            thread.join()


class Region:
    """Anonymous base pages."""

    def __init__(self, pages):
        self.bytes = mmap.mmap(-1, pages * PAGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        try:
            self.bytes.madvise(mmap.MADV_NOHUGEPAGE)
        except OSError:
            pass  # a kernel without huge pages
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.bytes))
        self.size = pages * PAGE

    def madvise(self, advice):
        """By libc, for that of Python would keep the other threads from running."""
        if LIBC.madvise(ctypes.c_void_p(self.address), ctypes.c_size_t(self.size), advice):
            raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()), 'madvise')


def swapped_out():
    """Pages, by all of the machine."""
    counts = counters.vmstat()
    return counts.get('pswpout', 0) + counts.get('zswpout', 0)


class Pageout:
    """MADV_PAGEOUT of a region."""
    name = 'MADV_PAGEOUT'

    def __init__(self):
        self.region = Region(PAGES)
        # Compresses to half or so, as memory does.
        self.content = random.Random(1).randbytes(PAGE // 2) + bytes(PAGE // 2)

    def round(self):
        """(seconds, flushes); no flushes if nothing much was written out."""
        for at in range(0, PAGES * PAGE, PAGE):
            self.region.bytes[at:at + PAGE] = self.content
            self.region.bytes[at] = at // PAGE % 255 + 1
        out, begin = swapped_out(), time.perf_counter()
        self.region.madvise(MADV_PAGEOUT)
        seconds = time.perf_counter() - begin
        return seconds, PAGES if swapped_out() - out >= 0.9 * PAGES else 0


class Dontneed:
    """MADV_DONTNEED of the first and the last page of a region."""
    name = 'MADV_DONTNEED'

    def __init__(self):
        self.region = Region(SPAN)

    def round(self, count=PAGES):
        """(seconds, flushes)"""
        region, last = self.region.bytes, (SPAN - 1) * PAGE
        begin = time.perf_counter()
        for _ in range(count):
            region[0] = region[last] = 1
            self.region.madvise(mmap.MADV_DONTNEED)
        return time.perf_counter() - begin, count


def rounds(work, others, seconds):
    """[(us for each flush, IPIs for each flush)] with so many other CPUs."""
    found, tries, end = [], 0, time.monotonic() + seconds
    sender = bool(others) and work.name == Pageout.name and counters.sender_counted()
    while tries < FEWEST or len(found) < ENOUGH and time.monotonic() < end:
        before = sum(counters.tlb_ipis())
        spent, flushes = work.round()
        tries += 1
        if flushes:
            ipis = sum(counters.tlb_ipis()) - before
            each = ipis / flushes - sender
            if not counters.flushes_by_ipi() or abs(each - others) <= NEAR * max(others, 1):
                found.append((spent / flushes * 1e6, each))
    return found


def first_of_all():
    """This thread before others, or its rounds would tell of the scheduler.  Nice would not do:
    it counts within a session alone, where tasks are grouped by session.  Without the right to
    it goes on as it is."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    except PermissionError:
        pass


def victim(calls, quiet, loud, ipis):
    """us that an interrupted CPU loses to one IPI: how much longer its calls take.  quiet and
    loud are (begin, end); None if nothing can be told."""
    lengths = [sorted(end - begin for begin, end in calls if low <= begin and end <= high)
               for low, high in (quiet, loud)]
    if min(map(len, lengths)) < FEWEST or not ipis:
        return None
    calm = lengths[0][len(lengths[0]) // 4]
    rate = ipis / (loud[1] - loud[0])
    lost = [(length - calm) / (rate * length) * 1e6 for length in lengths[1]]
    return max(sorted(lost)[len(lost) // 4], 0)


def swap_is_free():
    """Enough that nobody misses it."""
    return counters.memory()['swap_free_kib'] >= SPARE_KIB


def numbers_of_others(cpus):
    """0, 1, .. n - 1 of n CPUs; of many, about eight."""
    step = max(1, (cpus - 1) // 7)
    return sorted({*range(0, cpus, step), min(1, cpus - 1), cpus - 1})


def measure(seconds=0.4):
    """{'method', 'points': [{'others', 'us': [the least, the median, the mean], 'ipis'}],
    'victim_us'}; us for each page or, with MADV_DONTNEED, for each round.  seconds, at most, for
    each number of CPUs."""
    cpus = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cpus[0]})
    others, work = Others(), Pageout() if swap_is_free() else Dontneed()
    points, lost, quiet = [], None, None
    first_of_all()
    try:
        for count in range(len(cpus)):
            if count:
                others.start(cpus[count])
            if count == 1:
                begin = time.monotonic()
                time.sleep(seconds / 2)
                quiet = begin, time.monotonic()
            if count not in numbers_of_others(len(cpus)):
                continue
            begin, received = time.monotonic(), counters.tlb_ipis()
            found = rounds(work, count, seconds)
            if found:
                points.append({'others': count, 'us': spread([one[0] for one in found]),
                               'ipis': sum(one[1] for one in found) / len(found)})
            if count == 1 and counters.flushes_by_ipi():
                received = counters.tlb_ipis()[cpus[1]] - received[cpus[1]]
                lost = victim(others.calls[0], quiet, (begin, time.monotonic()), received)
    finally:
        others.end()
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
        os.sched_setaffinity(0, set(cpus))
    return {'method': work.name, 'points': points, 'victim_us': lost}
