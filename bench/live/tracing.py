# SPDX-License-Identifier: GPL-2.0-only
"""Trace events of the kernel, in instances of our own.  Nobody else's tracing changes.

Two kinds of event are read: stalls, all the time, and flushes and passes of reclaim with their
call chain in short windows.  A call chain costs some microseconds, so that only a sample is taken.
"""
import collections
import ctypes
import math
import os
import random
import re
import subprocess
import time

TRACEFS = '/sys/kernel/tracing'
NAME = re.compile(r'bench-watch\.(\d+)\.')
# "  bash-123   [001] d..1. 12.345678: tlb_flush: pages:-1 reason:remote IPI send (4)".
EVENT = re.compile(r'-(\d+)\s+(?:\(\s*[-\d]+\)\s+)?\[(\d+)\]\s+\S+\s+(\d+\.\d+): (\w+): (.*)')
# The same of a stall: its task, its time, its kind, and the pages that were reclaimed in it.
STALL = re.compile(r'-(\d+)\s+(?:\([^)]*\)\s+)?\[\d+\] \S+\s+(\d+\.\d+): (\w+)_(begin|end):(?:.*nr_reclaimed=(\d+))?')
# The head of a call chain, of the last event of that CPU.
CHAIN = re.compile(r'\[(\d+)\]\s+\S+\s+\d+\.\d+: <stack trace>')
LOST = re.compile(r'LOST (\d+) EVENTS')
FRAME = re.compile(r'=> ([\w.]+)')
FIELD = re.compile(r'(\w+)=(-?\d+)')
BUFFER_KIB = 1024       # of each CPU
# Has the triggers that let the events of windows be switched without patching the kernel's text.
# Any event would do that is rare and as old as Linux 5.10.
SWITCH = 'oom/mark_victim'
TLB_REMOTE_SEND_IPI = 4  # include/linux/mm_types.h, enum tlb_flush_reason

Event = collections.namedtuple('Event', 'pid cpu time name rest stack')


class Unavailable(Exception):
    """Tracing is not to be had; the text, one line, says why and what to do."""


def lockdown():
    """The mode of the kernel's lockdown, "" where there is none."""
    try:
        with open('/sys/kernel/security/lockdown', encoding='utf-8') as file:
            found = re.search(r'\[(\w+)\]', file.read())
            return found[1] if found else ''
    except OSError:
        return ''


def mount_own():
    """tracefs at its place, in a mount namespace of this process: gone when it ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    newns = 0x20000  # CLONE_NEWNS, sched.h
    if libc.unshare(newns):
        raise Unavailable(f'cannot mount tracefs: {os.strerror(ctypes.get_errno())}: '
                          f'mount -t tracefs nodev {TRACEFS}')
    for command in (['mount', '--make-rprivate', '/'], ['mount', '-t', 'tracefs', 'nodev', TRACEFS]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode and command[1] == '-t':
            raise Unavailable(f'cannot mount tracefs at {TRACEFS}: {done.stderr.strip()}: '
                              'the kernel needs CONFIG_EVENT_TRACING')


def find_tracefs():
    """Have it at TRACEFS, or say why not."""
    if lockdown() == 'confidentiality':
        raise Unavailable('the kernel is locked down (confidentiality) and lets nobody trace: '
                          'boot with lockdown=integrity')
    with open('/proc/filesystems', encoding='utf-8') as file:
        if 'tracefs' not in file.read():
            raise Unavailable('this kernel has no tracefs: it needs CONFIG_EVENT_TRACING')
    if not os.path.isdir(f'{TRACEFS}/instances'):
        mount_own()
    try:
        os.listdir(f'{TRACEFS}/instances')
        found = os.path.isdir(f'{TRACEFS}/events')
    except OSError as error:
        raise Unavailable(f'{TRACEFS}: {error.strerror}: is the kernel locked down?') from None
    if not found:
        raise Unavailable(f'no {TRACEFS}/events: the kernel needs CONFIG_EVENT_TRACING')


def write(path, words, mode='w'):
    """A file of tracefs."""
    with open(path, mode, encoding='utf-8') as file:
        file.write(words)


def remove(directory):
    """An instance; its events first, for an instance in use cannot be removed."""
    write(f'{directory}/tracing_on', '0')
    write(f'{directory}/events/enable', '0')
    os.rmdir(directory)


def remove_stale():
    """The instances of a watch that was killed; returns how many there were."""
    stale = 0
    for name in os.listdir(f'{TRACEFS}/instances'):
        found = NAME.match(name)
        if found and not os.path.isdir(f'/proc/{found[1]}'):
            remove(f'{TRACEFS}/instances/{name}')
            stale += 1
    return stale


def instance(pid, name):
    """The directory of one, of the watch with this PID."""
    return f'{TRACEFS}/instances/bench-watch.{pid}.{name}'


class Instance:
    """A buffer of its own, off at first.  events: {'group/event': filter or ''}."""

    def __init__(self, name, events, stacks=False):
        self.directory = instance(os.getpid(), name)
        self.stacks, self.missing, self.lost, self.pipe = stacks, [], 0, None
        self.present = []       # those events that the kernel has
        self.rest = ''
        try:
            os.mkdir(self.directory)
            self.set_up(events)
        except OSError as error:
            self.close()
            raise Unavailable(f'{error.filename or self.directory}: {error.strerror}: is the kernel '
                              'locked down, or memory short?') from None
        except BaseException:
            self.close()
            raise

    def set_up(self, events):
        """Find what this kernel has of the events."""
        self.put('tracing_on', '0')
        self.put('buffer_size_kb', str(BUFFER_KIB))
        # The same on all CPUs: a task may move.
        self.put('trace_clock', 'mono')
        for event, condition in events.items():
            if not os.path.isdir(f'{self.directory}/events/{event}'):
                self.missing.append(event)
                continue
            if condition:
                self.put(f'events/{event}/filter', condition)
            self.present.append(event)
            if self.stacks:
                self.make_soft(event)
        self.pipe = os.open(f'{self.directory}/trace_pipe', os.O_RDONLY | os.O_NONBLOCK)

    def make_soft(self, event):
        """An event that a trigger may enable stays registered, and is skipped while it is off.
        This trigger never fires."""
        self.put(f'events/{event}/enable', '1')
        write(f'{self.directory}/events/{SWITCH}/trigger',
              f'enable_event:{event.replace("/", ":")} if common_pid < 0', 'a')
        self.put(f'events/{event}/enable', '0')

    def put(self, name, words):
        """A file of this instance."""
        write(f'{self.directory}/{name}', words)

    def start(self, but=None):
        """From now on, all events but one."""
        if self.stacks:
            self.put('options/stacktrace', '1')
        self.put('tracing_on', '1')
        for event in self.present:
            if event != but:
                self.switch(event, True)

    def switch(self, event, on):
        """One event, if this kernel has it."""
        if event in self.present:
            self.put(f'events/{event}/enable', '1' if on else '0')

    def stop(self):
        """With tracing off alone, events and call chains would still be collected, and thrown
        away: that took 8 % of the time of a page of MADV_PAGEOUT."""
        for event in self.present:
            self.switch(event, False)
        self.put('tracing_on', '0')
        if self.stacks:
            self.put('options/stacktrace', '0')

    def lines(self):
        """Those that came since the last time."""
        chunks = [self.rest.encode()]
        while True:
            try:
                chunk = os.read(self.pipe, 1 << 16)
            except BlockingIOError:
                break
            if not chunk:
                break
            chunks.append(chunk)
        *lines, self.rest = b''.join(chunks).decode(errors='replace').split('\n')
        return lines

    def events(self):
        """[Event, ...]; lost ones are counted in self.lost."""
        found, stack_of, stack = [], {}, []
        for line in self.lines():
            if line.startswith(' => '):
                stack.append(line)
                continue
            event = EVENT.search(line)
            if event:
                pid, cpu, when, name, rest = event.groups()
                stack_of[cpu] = []
                found.append(Event(int(pid), int(cpu), float(when), name, rest, stack_of[cpu]))
                continue
            chain, lost = CHAIN.search(line), LOST.search(line)
            if chain:
                stack = stack_of.get(chain[1], [])
            elif lost:
                self.lost += int(lost[1])
        return found

    def close(self):
        """As it was before."""
        if self.pipe is not None:
            os.close(self.pipe)
            self.pipe = None
        if os.path.isdir(self.directory):
            remove(self.directory)


def fields(event):
    """Its key=value pairs of whole numbers."""
    return {key: int(value) for key, value in FIELD.findall(event.rest)}


class Stalls:
    """How long tasks were held up by direct reclaim and compaction.

    kinds: {name of the event without _begin or _end: what it is}
    """
    KINDS = {'mm_vmscan_direct_reclaim': 'direct reclaim',
             'mm_vmscan_memcg_reclaim': 'reclaim of a cgroup',
             'mm_compaction': 'compaction'}

    def __init__(self):
        events = {f'{"compaction" if "compaction" in kind else "vmscan"}/{kind}_{end}': ''
                  for kind in self.KINDS for end in ('begin', 'end')}
        self.instance = Instance('stalls', events)
        self.begun, self.usec, self.pages = {}, {}, collections.Counter()

    def start(self):
        """To be followed by read()."""
        self.instance.start()

    def stop(self):
        """What has begun is not seen to end."""
        self.instance.stop()

    def read(self):
        """Take what there is. There may be thousands a second: no more is read of a line than is
        needed."""
        for line in self.instance.lines():
            found = STALL.search(line)
            if found:
                pid, when, kind, end, pages = found.groups()
                self.take((int(pid), kind), float(when), end == 'end', int(pages or 0))
                continue
            lost = LOST.search(line)
            if lost:
                self.instance.lost += int(lost[1])

    def take(self, key, when, ended, pages):
        """The begin of a stall, or its end."""
        if not ended:
            self.begun[key] = when
        elif key in self.begun:
            kind = self.KINDS.get(key[1], key[1])
            self.usec.setdefault((kind, key[0]), []).append((when - self.begun.pop(key)) * 1e6)
            self.pages[kind] += pages


# Who reclaims, by a function of the call chain; the first that is there.
RECLAIMERS = [
    ('kswapd', ('balance_pgdat', 'kswapd')),
    ('DAMON', ('damon_', 'kdamond')),
    ('MADV_PAGEOUT', ('reclaim_pages', 'reclaim_folio_list', 'madvise_cold_or_pageout')),
    ('memory.reclaim', ('memory_reclaim', 'user_proactive_reclaim')),
    ('cgroup limit', ('try_to_free_mem_cgroup_pages', 'mem_cgroup_shrink_node')),
    ('direct', ('try_to_free_pages', 'do_try_to_free_pages', '__node_reclaim', 'node_reclaim')),
]
RECLAIMING = ('shrink_folio_list', 'shrink_page_list')
# What else flushes, likewise.
ORIGINS = [
    ('compaction', ('compact_zone',)), ('khugepaged', ('khugepaged', 'collapse_')),
    ('NUMA balancing', ('task_numa_work', 'change_prot_numa', 'migrate_misplaced')),
    ('migration', ('migrate_',)), ('exit', ('exit_mmap', '__mmput', 'mmput')),
    ('munmap', ('__vm_munmap', 'do_vmi_munmap', '__do_munmap', 'do_vmi_align_munmap')),
    ('mprotect', ('mprotect_fixup', 'do_mprotect')), ('mremap', ('move_page_tables',)),
    ('madvise', ('madvise_', 'do_madvise')), ('fork', ('dup_mm', 'copy_process')),
    ('copy on write', ('wp_page_copy', 'do_wp_page')),
    ('writeback', ('folio_mkclean', 'page_mkclean')), ('truncation', ('unmap_mapping_',)),
]


def functions(lines):
    """Of a call chain, innermost first, without those of tracing."""
    names = [found[1] for found in map(FRAME.search, lines) if found]
    return tuple(name for name in names if not name.startswith('trace_event_'))


def first_of(table, stack):
    """The first name in a table of (name, beginnings of functions) of which one is there."""
    for name, beginnings in table:
        if any(frame.startswith(beginnings) for frame in stack):
            return name
    return None


def reclaimer(stack):
    """Who reclaims, or None if this is no reclaim."""
    if any(frame.startswith(RECLAIMING) for frame in stack):
        return first_of(RECLAIMERS, stack) or 'direct'
    return None


class Pace:
    """How long a window of the next stratum is: what it brings is to cost no more than a share of
    the CPU time to read."""

    def __init__(self, share, shortest, longest):
        self.share, self.shortest, self.longest = share, shortest, longest
        self.window, self.rate, self.seconds = 0.01, 0.0, 0.0

    def next(self, seconds, used, allowed):
        """A window of so many seconds used so much CPU time, of what a stratum is allowed."""
        self.seconds += seconds
        rate = used / seconds
        # Soon if there is more to read, slowly if there is less: load comes and goes.
        self.rate += (rate - self.rate) / (4 if rate > self.rate else 16)
        wanted = self.share * allowed / max(self.rate, 1e-9)
        self.window = min(max(wanted, self.shortest), 2 * self.window, self.longest)

    def spoilt(self):
        """Too long for the buffer."""
        self.window = max(self.window / 4, self.shortest)


class Flushes:
    """A sample of TLB flushes sent to other CPUs, and of passes of reclaim.

    The time is cut into strata. Each has a window for passes, somewhere in it, and at its beginning
    a window for flushes, of which there are many more. What a window saw stands for its whole
    stratum, and is counted so many times.
    """
    FLUSH = 'tlb/tlb_flush'
    PASSES = {'vmscan/mm_vmscan_lru_shrink_inactive': '', 'vmscan/mm_vmscan_reclaim_pages': ''}
    STRATUM = 0.2       # seconds, at most
    # Of the CPU time of the machine, for reading; two thirds of it for flushes.
    BUDGET = 0.003
    # Seconds, at least: time to switch events, and as long as a few passes take. At most: of
    # flushes, what can be read of a sudden load.
    SHORTEST, SHORTEST_OF_PASSES = 0.0005, 0.002
    LONGEST = 0.05
    # Folios that one flush of the series covers at most (PMD_SIZE / PAGE_SIZE).
    BATCH = 512

    def __init__(self):
        events = {self.FLUSH: f'reason == {TLB_REMOTE_SEND_IPI}', **self.PASSES}
        self.instance = Instance('flushes', events, stacks=True)
        self.flushes = Pace(2 / 3, self.SHORTEST, self.LONGEST)
        self.passes = Pace(1 / 3, self.SHORTEST_OF_PASSES, 0.8 * self.STRATUM)
        self.windows, self.spoilt, self.intervals, self.seen = 0, 0, 0.0, 0
        self.by_origin, self.by_task, self.chains = (collections.Counter() for _ in range(3))
        self.pages = collections.Counter()  # flushes by how much they flush
        self.reclaimed = collections.Counter()  # pages, by reclaimer
        # Passes that ended while flushes were seen, and those of them that flushed; by task and
        # reclaimer, and by reclaimer.
        self.ended, self.flushed = collections.Counter(), collections.Counter()
        self.sums = {}                      # Sums, by reclaimer

    def watch(self, seconds):
        """For so long, stratum by stratum."""
        end = time.monotonic() + seconds
        count = max(round(seconds / self.STRATUM), 1)
        for left in range(count - 1, -1, -1):
            until = end - left * seconds / count
            stratum = until - time.monotonic()
            if stratum > 0.5 * seconds / count:
                self.stratum(stratum)
                time.sleep(max(until - time.monotonic(), 0))

    def stratum(self, seconds):
        """The windows of one."""
        outer = min(self.passes.window, 0.8 * seconds)
        inner = min(self.flushes.window, outer)
        time.sleep(random.uniform(0, seconds - outer))
        self.instance.start(but=self.FLUSH)
        begin = time.monotonic()
        first = self.switch_flushes(True)
        time.sleep(inner)
        middle = self.switch_flushes(False)
        time.sleep(max(begin + outer - middle, 0))
        end = time.monotonic()
        self.instance.stop()
        self.read(seconds, middle - first, end - begin, middle)

    def switch_flushes(self, on):
        """Returns when that was. It takes as long as a short window: half of it before, half after."""
        before = time.monotonic()
        self.instance.switch(self.FLUSH, on)
        return (before + time.monotonic()) / 2

    def read(self, seconds, inner, outer, until):
        """What a stratum of so many seconds brought, in windows so long for flushes, until then, and
        for passes."""
        lost, used = self.instance.lost, time.process_time()
        events = self.instance.events()
        if self.instance.lost > lost:
            # What is left of it is no fair sample.
            self.spoilt += 1
            self.flushes.spoilt()
            self.passes.spoilt()
            return
        self.windows += 1
        self.seen += len(events)
        self.intervals += seconds
        self.take(events, Window(seconds / inner, seconds / outer, until))
        each = (time.process_time() - used) / max(len(events), 1)
        flushes = sum(event.name == 'tlb_flush' for event in events)
        allowed = self.BUDGET * os.cpu_count() * seconds
        self.flushes.next(inner, flushes * each, allowed)
        self.passes.next(outer, (len(events) - flushes) * each, allowed)

    def take(self, events, window):
        """Count each as often as its window says."""
        cache = {}
        for event in events:
            lines = tuple(event.stack)
            if lines not in cache:
                key = functions(lines)
                cache[lines] = (key, reclaimer(key), first_of(ORIGINS, key) or 'other')
            key, who, what = cache[lines]
            if event.name == 'tlb_flush':
                self.take_flush(event, key, f'reclaim: {who}' if who else what, window.weight)
                if who:
                    window.flush(event.pid, who)
            else:
                who = who or first_of(RECLAIMERS, key) or 'direct'
                values = fields(event)
                self.reclaimed[who] += window.weight_of_pass * values.get('nr_reclaimed', 0)
                window.end_of_pass(event, who, -(-max(values.get('nr_scanned', 1), 1) // self.BATCH))
        self.take_window(window)

    def take_flush(self, event, chain, origin, weight):
        """One, for so many."""
        self.by_origin[origin] += weight
        self.by_task[event.pid, origin] += weight
        self.chains[origin, chain] += weight
        self.pages[int(event.rest.split()[0].partition(':')[2])] += weight

    def take_window(self, window):
        """Add what it saw to the sums."""
        rows = {who: [window.weight * count, 0, 0] for who, count in window.flushes.items()}
        for task, flushed in window.known:
            for key in task, task[1]:
                self.ended[key] += 1
                self.flushed[key] += flushed
        for task, batches in window.passes:
            row = rows.setdefault(task[1], [0, 0, 0])
            count = window.weight_of_pass * self.flushing(task)
            row[1] += count
            row[2] += count * batches
        for who, row in rows.items():
            self.sums.setdefault(who, Sums()).add(*row)

    def flushing(self, task):
        """The share of its passes that flush: by those of the task that were seen together with
        flushes; all, if only flushes of it were; or by those of all that reclaim as it does; or
        all or nothing."""
        pid, who = task
        if self.ended[task]:
            return self.flushed[task] / self.ended[task]
        if self.by_task[pid, f'reclaim: {who}']:
            return 1.0
        if self.ended[who]:
            return self.flushed[who] / self.ended[who]
        return float(self.by_origin[f'reclaim: {who}'] > 0)


class Window:
    """What was seen in a stratum. A flush stands for weight, a pass for weight_of_pass. Flushes
    are seen until then."""

    def __init__(self, weight, weight_of_pass, until):
        self.weight, self.weight_of_pass = weight, weight_of_pass
        self.until, self.last = until, set()
        self.flushes = collections.Counter()    # by reclaimer
        self.passes = []        # ((pid, reclaimer), flushes that it needs at best)
        self.known = []         # ((pid, reclaimer), whether it flushed)

    def flush(self, pid, who):
        """One of reclaim."""
        self.flushes[who] += 1
        self.last.add(pid)

    def end_of_pass(self, event, who, batches):
        """It flushed if a flush of its task came before it."""
        self.passes.append(((event.pid, who), batches))
        if event.time <= self.until:
            self.known.append(((event.pid, who), event.pid in self.last))
            self.last.discard(event.pid)


class Sums:
    """Over strata: flushes of a reclaimer, its passes that flushed, and how many flushes these
    need at best."""

    def __init__(self):
        self.windows = self.flushes = self.passes = self.needed = 0
        self.squares = (0, 0, 0)    # of flushes, of both, of needed

    def add(self, flushes, passes, needed):
        """A stratum."""
        self.windows += 1
        self.flushes += flushes
        self.passes += passes
        self.needed += needed
        new = (flushes * flushes, flushes * needed, needed * needed)
        self.squares = tuple(map(sum, zip(self.squares, new)))

    def error(self):
        """Three standard errors of needed, as of a ratio to the flushes: Cochran, Sampling
        Techniques, 6.4."""
        if self.windows < 2 or not self.flushes:
            return self.needed
        ratio, (one, both, other) = self.needed / self.flushes, self.squares
        left = max(other - 2 * ratio * both + ratio * ratio * one, 0)
        return 3 * math.sqrt(self.windows / (self.windows - 1) * left)
